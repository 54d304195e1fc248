"""What trains LookaheadDepth, against its equation, token by token."""

import math

import pytest
import torch
from torch import Tensor

from act import Block, Recurrence
from halting import GravesACT, LookaheadDepth, LoopTrace, NextStepHelps, StepOutcomes, UsageError

LN2 = math.log(2)


def case(
    logits: list[list[float]], losses: list[list[float]], steps: list[int]
) -> tuple[LoopTrace, StepOutcomes]:
    """Tokens of one sequence."""
    count = torch.tensor([steps])
    logit = torch.tensor([logits], dtype=torch.float64)
    ran = torch.arange(logit.shape[-1]) < count.unsqueeze(-1)
    mass = ran.double()
    trace = LoopTrace(mass, mass, count, count > 0, {"helps_logit": logit})
    loss = torch.where(ran, torch.tensor([losses], dtype=torch.float64), 0.0)
    return trace, StepOutcomes(loss, ran.long(), torch.zeros_like(ran), trace.valid)


def test_by_hand() -> None:
    """δ = 0.1. Losses 2, 1, 0.95, 0.95: the first step ahead helps, the second by 0.05 and the
    third by 0 do not; a gate at ln 3 says 3/4."""
    trace, outcomes = case(
        [[math.log(3), math.log(3), 0.0, 50.0], [0.0, 0.0, 9.0, 9.0], [5.0, 9.0, 9.0, 9.0]],
        [[2.0, 1.0, 0.95, 0.95], [1.0, 3.0, 0.0, 0.0], [7.0, 0.0, 0.0, 0.0]],
        [4, 2, 1],
    )
    cost = NextStepHelps(delta=0.1)(trace, outcomes)[0]
    first = (-math.log(3 / 4) - math.log(1 / 4) + LN2) / 3
    assert cost.tolist() == pytest.approx([first, LN2, 0.0])


@pytest.mark.parametrize(("delta", "helps"), [(0.0, True), (0.25, True), (0.5, False), (1, False)])
def test_the_loss_has_to_fall_by_more_than_delta(delta: float, helps: bool) -> None:
    """By 0.5 here: no more than a δ of 0.5."""
    cost = NextStepHelps(delta)(*case([[2.0, 0.0]], [[1.0, 0.5]], [2])).item()
    assert cost == pytest.approx(math.log1p(math.exp(-2.0 if helps else 2.0)))


def test_a_step_that_changes_nothing_is_no_help_at_delta_0() -> None:
    """Padding and halted steps hold losses of 0, which must not count either."""
    cost = NextStepHelps(0.0)
    same = cost(*case([[-60.0, 0.0]], [[1.0, 1.0]], [2]))
    worse = cost(*case([[-60.0, 0.0]], [[1.0, 4.0]], [2]))
    left = cost(*case([[-60.0, 0.0]], [[1.0, 0.0]], [1]))
    assert max(same.item(), worse.item(), left.item()) < 1e-9


def test_it_teaches_the_gate_of_the_step_before_the_one_that_is_judged() -> None:
    trace, outcomes = case([[0.0, 0.0, 0.0]], [[3.0, 1.0, 1.0]], [3])
    logit = trace.aux["helps_logit"].requires_grad_()
    (pull,) = torch.autograd.grad(NextStepHelps()(trace, outcomes).sum(), logit)
    assert (-pull[0, 0]).tolist() == pytest.approx([0.25, -0.25, 0.0])


def test_padding_and_tokens_without_a_target_cost_nothing() -> None:
    trace, outcomes = case([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [[2.0, 1.0]] * 3, [2, 2, 0])
    asked = torch.tensor([[True, False, False]])
    cost = NextStepHelps()(trace, outcomes._replace(has_target=asked))[0]
    assert cost[0] > 0 and cost[1:].tolist() == [0.0, 0.0]


def test_the_losses_are_data_and_a_saturated_gate_still_learns() -> None:
    trace, outcomes = case([[200.0, 0.0]], [[1.0, 1.0]], [2])
    logit = trace.aux["helps_logit"].requires_grad_()
    loss = outcomes.loss.requires_grad_()
    cost = NextStepHelps()(trace, outcomes._replace(loss=loss)).sum()
    found, reached = torch.autograd.grad(cost, (logit, loss), allow_unused=True)
    assert reached is None and found[0, 0].tolist() == [1.0, 0.0]


def cost_of(loop: Recurrence, x: Tensor, valid: Tensor) -> Tensor:
    _, trace = loop(x, valid)
    draw = torch.Generator().manual_seed(3)
    losses = torch.rand(trace.mass.shape, generator=draw, dtype=torch.float64)
    outcomes = StepOutcomes(losses, trace.ran.long(), torch.zeros_like(trace.ran), trace.valid)
    return NextStepHelps()(trace, outcomes).sum()


def test_its_gradient_reaches_the_gate_alone_and_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    rule = LookaheadDepth(8)
    torch.nn.init.normal_(rule.gate.weight)
    loop = Recurrence(Block(8, 2), rule, max_steps=4).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    cost = cost_of(loop, x, valid)
    (found,) = torch.autograd.grad(cost, rule.gate.weight, retain_graph=True)
    flat = rule.gate.weight.data.view(-1)
    for place, gradient in enumerate(found.flatten().tolist()):
        flat[place] += 1e-6
        above = cost_of(loop, x, valid).item()
        flat[place] -= 2e-6
        below = cost_of(loop, x, valid).item()
        flat[place] += 1e-6
        assert gradient == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-7)
    for tensor in torch.autograd.grad(cost, [x, *loop.block.parameters()]):
        assert (tensor == 0).all(), "the gate would shape the model"


@pytest.mark.parametrize("delta", [-0.01, math.inf, math.nan])
def test_a_delta_that_cannot_be_is_refused(delta: float) -> None:
    with pytest.raises(UsageError, match=f"delta is {delta}"):
        NextStepHelps(delta)


def test_another_rules_trace_is_refused() -> None:
    _, trace = Recurrence(Block(6, 1), GravesACT(6), max_steps=3)(torch.randn(1, 2, 6))
    with pytest.raises(UsageError, match="finds no helps_logit"):
        NextStepHelps()(trace, StepOutcomes(trace.mass, trace.ran, trace.ran, trace.valid))
