"""What thinking costs, against closed forms and finite differences; and that it trains the gate."""

import pytest
import torch
from torch import Tensor, nn

from act import Block, Recurrence
from halting import (
    ExpectedSteps,
    GravesACT,
    LoopTrace,
    MinSteps,
    PerSequence,
    PonderCost,
    StepsPlusRemainder,
)

VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)


def trace_of(hazards: Tensor) -> LoopTrace:
    """One token that leaves with the last of its hazards [N]."""
    mass = torch.cat((hazards[:-1], 1 - hazards[:-1].sum(0, keepdim=True)))
    steps = torch.tensor([[len(hazards)]])
    return LoopTrace(
        mass.view(1, 1, -1), hazards.view(1, 1, -1), steps, torch.ones(1, 1, dtype=torch.bool), {}
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_closed_forms(count: int) -> None:
    hazards = torch.full((count,), 0.1, dtype=torch.float64, requires_grad=True)
    trace = trace_of(hazards)
    cost, mean = StepsPlusRemainder()(trace), ExpectedSteps()(trace)
    assert cost.item() == pytest.approx(count + 1 - 0.1 * (count - 1))
    assert mean.item() == pytest.approx(
        sum(n * 0.1 for n in range(1, count)) + count * (1 - 0.1 * (count - 1))
    )
    (of_cost,) = torch.autograd.grad(cost.sum(), hazards)
    (of_mean,) = torch.autograd.grad(mean.sum(), hazards)
    assert of_cost.tolist() == pytest.approx([-1.0] * (count - 1) + [0.0])
    assert of_mean.tolist() == pytest.approx([n - count for n in range(1, count + 1)])


def act_loop(wrap: type | None) -> Recurrence:
    rule = GravesACT(6, bias_init=-0.7)
    nn.init.normal_(rule.gate.weight, std=0.3)
    wrapped = rule if wrap is None else wrap(rule, 2) if wrap is MinSteps else wrap(rule)
    return Recurrence(Block(6, 2, rotary=False), wrapped, max_steps=6).double()


@pytest.mark.parametrize("wrap", [None, MinSteps, PerSequence])
@pytest.mark.parametrize(
    "cost", [StepsPlusRemainder(), ExpectedSteps()], ids=lambda c: type(c).__name__
)
def test_its_gradient_alone_reaches_the_gate_and_is_that_of_finite_differences(
    cost: PonderCost, wrap: type | None
) -> None:
    loop, x = act_loop(wrap), torch.randn(2, 4, 6, dtype=torch.float64)

    def total() -> tuple[Tensor, Tensor]:
        _, trace = loop(x, VALID)
        return cost(trace).sum(), trace.steps

    value, steps = total()
    assert steps.max() > 1
    wanted = list(loop.rule.parameters())
    found = torch.autograd.grad(value, wanted)
    small = 1e-6
    for parameter, gradient in zip(wanted, found, strict=True):
        assert (gradient != 0).any()
        flat, numbers = parameter.data.view(-1), gradient.flatten()
        for place in range(len(flat)):
            differences = []
            for move in (small, -2 * small):
                flat[place] += move
                moved, moved_steps = total()
                assert torch.equal(moved_steps, steps), (
                    "the cost jumps where the step count does: no derivative there"
                )
                differences.append(moved.item())
            flat[place] += small
            expected = (differences[0] - differences[1]) / (2 * small)
            assert numbers[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    "cost", [StepsPlusRemainder(), ExpectedSteps()], ids=lambda c: type(c).__name__
)
def test_padding_is_free_and_everyone_else_pays(cost: PonderCost) -> None:
    _, trace = act_loop(None)(torch.randn(2, 4, 6, dtype=torch.float64), VALID)
    value = cost(trace)
    assert value.shape == VALID.shape and (value[~VALID] == 0).all() and (value[VALID] >= 1).all()


def test_expected_steps_never_exceed_steps_plus_remainder() -> None:
    _, trace = act_loop(None)(torch.randn(2, 4, 6, dtype=torch.float64), VALID)
    assert (ExpectedSteps()(trace) <= StepsPlusRemainder()(trace)).all()
