"""Backprop through the last steps alone: the gradient of a loop that was entered there, and
refusals."""

from itertools import pairwise

import pytest
import torch

from act import Block, LastSteps, Recurrence, Truncated
from act.caches.cache import FunctionalCache
from act.slots import Slots
from act.testing import assert_close
from halting import (
    DeepSupervision,
    EveryStep,
    ExitGate,
    FinalState,
    FixedSteps,
    GravesACT,
    HaltingRule,
    MaxSteps,
    MinSteps,
    PerSequence,
    Readout,
    StopAt,
    UsageError,
)

BATCH, LENGTH, DIM, LIMIT = 2, 3, 8, 5


def loop_of(backprop: LastSteps, rule: FixedSteps | None = None) -> Recurrence:
    torch.manual_seed(1)
    block = Block(DIM, 2, num_layers=2, injection="concat", step_signal="sinusoidal")
    return Recurrence(
        block, rule or FixedSteps(), FinalState(), max_steps=LIMIT, backprop=backprop
    ).double()


def by_hand(loop: Recurrence, x: torch.Tensor, steps: int, last: int) -> torch.Tensor:
    """The first steps without gradient, then `steps` of them as a plain chain that ends at step
    `last`."""
    slots = Slots.of(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    inputs = x.flatten(0, 1)
    state, cache = inputs, FunctionalCache(None)
    for step in range(1, last + 1):
        with torch.set_grad_enabled(step > last - steps):
            entering = loop.block.enter(state, inputs, slots)
            state, cache = loop.block(entering, slots, cache)
        slots = slots.next_step()
    return state.view(x.shape)


@pytest.mark.parametrize(
    ("steps", "rule", "limit"),
    [
        (1, None, None),
        (2, None, None),
        (4, None, None),
        (5, None, None),
        (9, None, None),
        (2, 3, None),
        (2, None, 4),
    ],
)
def test_the_gradient_is_that_of_the_last_steps(
    steps: int, rule: int | None, limit: int | None
) -> None:
    loop = loop_of(LastSteps(steps), FixedSteps(rule))
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64, requires_grad=True)
    wanted = [x, *loop.parameters()]
    output, _ = loop(x, max_steps=limit)
    expected = by_hand(loop, x, steps, rule or limit or LIMIT)
    assert_close(output, expected, "output")
    mine, theirs = (
        torch.autograd.grad(each.sin().sum(), wanted, allow_unused=True)
        for each in (output, expected)
    )
    for one, other in zip(mine, theirs, strict=True):
        assert one is not None and other is not None
        assert_close(one, other, "gradient")


def test_fewer_steps_are_another_gradient() -> None:
    """Or else the test above would hold of schemes that cut nothing."""
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64, requires_grad=True)
    found = [
        torch.autograd.grad(loop_of(LastSteps(steps))(x)[0].sin().sum(), x)[0]
        for steps in (1, 2, 5)
    ]
    assert min(float((a - b).abs().max()) for a, b in pairwise(found)) > 1e-3


@pytest.mark.parametrize(
    ("rule", "readout"),
    [(ExitGate(DIM), FinalState()), (FixedSteps(), EveryStep()), (FixedSteps(), DeepSupervision())],
)
def test_it_is_refused_where_earlier_steps_are_trained_too(
    rule: HaltingRule, readout: Readout
) -> None:
    """There the gradient would go back through all steps, whatever is cut before the last ones."""
    with pytest.raises(UsageError, match="cannot leave out the first steps"):
        Recurrence(Block(DIM, 2), rule, readout, max_steps=LIMIT, backprop=LastSteps(2))


def test_it_is_refused_where_depth_is_not_fixed() -> None:
    block = Block(DIM, 2)
    for rule in (GravesACT(DIM), MinSteps(GravesACT(DIM), 2)):
        with pytest.raises(UsageError, match=rf"LastSteps\(steps=2\).*{type(rule).__name__}"):
            Recurrence(block, rule, max_steps=LIMIT, backprop=LastSteps(2))
        Recurrence(block, rule, max_steps=LIMIT, backprop=Truncated(2))
    for rule in (
        MinSteps(FixedSteps(2), 3),
        MaxSteps(FixedSteps(), 3),
        PerSequence(FixedSteps(3)),
        StopAt(GravesACT(DIM), 3),
    ):
        assert rule.fixed_depth(7) == 3 and rule.fixed_depth(2) == 2
    assert (
        MinSteps(GravesACT(DIM), 3).fixed_depth(7) is None
        and MaxSteps(GravesACT(DIM), 3).fixed_depth(7) is None
    )
    assert (
        FixedSteps().fixed_depth(7) == 7
        and FixedSteps(3).fixed_depth(7) == 3
        and FixedSteps(9).fixed_depth(7) == 7
    )
