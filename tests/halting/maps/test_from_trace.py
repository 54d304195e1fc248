"""A loop of one's own becomes a ponder map in one call."""

from pathlib import Path

import numpy as np
import pytest
import torch

from act import Block, Recurrence
from halting import GravesACT, LoopTrace, UsageError
from halting.maps.ponder_map import PonderMap

VALID = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
TEXTS = [["the", "cat", "sat"], ["on", "mats"]]


def trace_of() -> LoopTrace:
    torch.manual_seed(0)
    rule = GravesACT(8, bias_init=-1.0)
    torch.nn.init.normal_(rule.gate.weight)
    _, trace = Recurrence(Block(8, 2), rule, max_steps=5)(torch.randn(2, 4, 8), VALID)
    return trace


def test_the_map_holds_the_record():
    trace = trace_of()
    shown = PonderMap.from_trace(trace, TEXTS, targets=torch.zeros(2, 4, dtype=torch.int64))
    assert shown.texts == [["the", "cat", "sat", ""], ["on", "mats", "", ""]]
    np.testing.assert_array_equal(shown.steps, trace.steps.numpy())
    np.testing.assert_array_equal(shown.mass, trace.mass.detach().numpy())
    np.testing.assert_array_equal(np.isnan(shown.score), ~trace.ran.numpy())
    np.testing.assert_array_equal(shown.ponder, trace.steps.numpy())
    assert shown.has_target.sum() == 5
    assert PonderMap.from_trace(trace, shown.texts).texts == shown.texts


def test_it_is_shown_as_a_page_and_a_picture(tmp_path: Path):
    shown = PonderMap.from_trace(trace_of(), TEXTS, metadata={"rule": "mine"})
    page = shown.to_html(1)
    assert page.startswith("<!") and "cat" in page and "mats" not in page
    shown.to_png(tmp_path / "map.png", sequence=1)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "cat" in str(shown)


@pytest.mark.parametrize("texts", [TEXTS[:1], [["a"], ["b", "c"]], [*TEXTS, ["d"]]])
def test_texts_of_something_else_are_refused(texts: list[list[str]]):
    with pytest.raises(UsageError, match="one string for each token"):
        PonderMap.from_trace(trace_of(), texts)
