"""What layers add is scaled: by hand, and through a run's folder."""

import math
from pathlib import Path

import pytest
import torch
from small_runs import small, train_only

from act import Block
from act.caches.cache import FunctionalCache
from act.slots import Slots
from halting import UsageError
from training import load_run

SCALE = 0.25


def test_a_layer_adds_its_branches_times_the_scale():
    torch.manual_seed(0)
    plain, scaled = (Block(8, 2, residual_scale=each).double() for each in (1.0, SCALE))
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(5, 8, dtype=torch.float64)
    slots = Slots.of(torch.ones(1, 5, dtype=torch.bool))
    layer = plain.layers[0]
    whole, _ = plain(x, slots, FunctionalCache(None))
    found, _ = scaled(x, slots, FunctionalCache(None))
    attended = whole - x  # both branches; the second reads what the first has made
    layer.feed_forward.down.weight.data.zero_()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    first = plain(x, slots, FunctionalCache(None))[0] - x
    assert not torch.allclose(attended, first)
    middle = x + SCALE * first
    layer.feed_forward.down.weight.data.copy_(scaled.layers[0].feed_forward.down.weight)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    wanted = middle + SCALE * layer.feed_forward(layer.feed_forward_norm(middle))  # pyright: ignore[reportCallIssue]
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_that_cannot_be_is_refused(scale: float):
    with pytest.raises(UsageError, match="residual scale"):
        Block(8, 2, residual_scale=scale)


def test_a_run_keeps_it(tmp_path: Path):
    config = small(tmp_path, updates=1)
    options = {**config.model.options, "residual_scale": SCALE}
    train_only(config.replace(model=config.model.replace(options=options), name="scaled"))
    layers = load_run(tmp_path / "scaled").model.recurrence.block.layers
    assert [layer.residual_scale for layer in layers] == [SCALE]  # pyright: ignore[reportGeneralTypeIssues]
