"""The memory and time of the loss: what is measured, and how it is judged."""

import pytest
import torch

from benchmarks.language.loss_rows import against_targets, table
from benchmarks.language.loss_worker import Given, peak


@pytest.mark.parametrize("steps", [1, 3])
def test_both_ways_train_the_same(steps: int):
    given = Given(50, 90, 8, steps)
    wanted = (given.states, given.head.weight, given.mass)
    chunked, whole = (
        torch.autograd.grad(given.losses(way), wanted) for way in ("chunked", "whole")
    )
    for one, other in zip(chunked, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_peak_is_that_of_the_way():
    """Logits of 32 MiB: whole, they and what is made of them lie there at once."""
    given = Given(16384, 512, 16, 1)
    assert peak(given, "whole") > 2 * 2**25
    assert peak(given, "chunked") < 2**24


@pytest.mark.parametrize(
    ("most", "time", "met"),
    [(7e7, 0.9, [True, True]), (9e7, 0.9, [False, True]), (7e7, 1.1, [True, False])],
)
def test_targets_are_judged(most: float, time: float, met: list[bool]):
    row = {"width": 256, "steps": 1, "logits_bytes": 2**29, "peak_bytes": most, "seconds": 1.0}
    row |= {"whole_peak_bytes": 3 * 2**29, "time_ratio": time}
    assert [figure.met for figure in against_targets([row])] == met
    assert len(table([row])[1]) == 1 and against_targets([{"failed": "killed"}]) == []
