"""The second stage's gate loss against its equations, token by token."""

import math

import pytest
import torch
from torch import Tensor, nn

from act import Block, Recurrence
from halting import GravesACT, LoopTrace, StepOutcomes, UsageError
from halting.costs.gate_target import GateTarget
from halting.rules.exit_gate import ExitGate

DIM, LIMIT = 6, 5
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def case(logits: Tensor, losses: Tensor, steps: list[int]) -> tuple[LoopTrace, StepOutcomes]:
    """Tokens [L N] of one sequence."""
    count = torch.tensor([steps])
    ran = torch.arange(logits.shape[-1]) < count.unsqueeze(-1)
    mass = torch.where(ran, 1.0, 0.0).to(logits.dtype)
    trace = LoopTrace(mass, mass, count, count > 0, {"exit_logit": logits.unsqueeze(0)})
    wide = torch.where(ran, losses.unsqueeze(0), 0.0)
    return trace, outcomes_of(trace, wide)


def outcomes_of(trace: LoopTrace, losses: Tensor) -> StepOutcomes:
    """Of steps [B L N] that are all wrong, everything real being asked."""
    return StepOutcomes(losses, trace.ran.long(), torch.zeros_like(trace.ran), trace.valid)


@pytest.mark.parametrize("ahead", [False, True])
def test_it_is_the_mean_cross_entropy_to_the_improvement(ahead: bool) -> None:
    logits, losses = (
        torch.randn(6, 4, dtype=torch.float64),
        torch.rand(6, 4, dtype=torch.float64) * 0.3,
    )
    steps = [4, 4, 3, 2, 1, 0]
    trace, outcomes = case(logits, losses, steps)
    cost = GateTarget(ahead=ahead)(trace, outcomes)[0]
    for token, count in enumerate(steps):
        terms = []
        for n in range(1, count):
            improvement = max(0.0, float(losses[token, n - 1] - losses[token, n]))
            go_on = sigmoid(50 * (improvement - 0.005))
            hazard = sigmoid(float(logits[token, n - 1 if ahead else n]))
            terms.append(-go_on * math.log(1 - hazard) - (1 - go_on) * math.log(hazard))
        assert cost[token].item() == pytest.approx(sum(terms) / max(len(terms), 1)), (
            f"token {token}"
        )


def pull(before: float, after: float, ahead: bool = False) -> list[float]:
    """What one unit of descent does to the logits of a token of two steps, whose loss goes from one
    to the other."""
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    trace, outcomes = case(logits, torch.tensor([[before, after]], dtype=torch.float64), [2])
    (found,) = torch.autograd.grad(GateTarget(ahead=ahead)(trace, outcomes).sum(), logits)
    return (-found[0]).tolist()


def test_it_teaches_to_go_on_where_the_step_helped_and_to_stop_where_it_did_not() -> None:
    """With the label on *stop*, as a port could have it, both signs would turn."""
    assert pull(2.0, 0.5)[1] < -0.4 and pull(0.5, 0.5)[1] > 0.05 and pull(0.5, 2.0)[1] > 0.05
    assert pull(0.5, 0.495)[1] == pytest.approx(0.0, abs=1e-9), (
        "at the threshold the gate is to be undecided"
    )
    assert pull(0.5, 0.5) == pytest.approx(pull(0.5, 2.0)), "worse counts as no better"


def test_which_gate_is_taught() -> None:
    assert (
        pull(2.0, 0.5)[0] == 0
        and pull(2.0, 0.5, ahead=True)[1] == 0
        and pull(2.0, 0.5, ahead=True)[0] < -0.4
    )


def test_the_task_s_loss_is_data() -> None:
    """Or else the model would be trained to make its steps look useless."""
    losses = torch.rand(1, 3, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    cost = GateTarget()(*case(logits, losses, [3])).sum()
    reached, taught = torch.autograd.grad(cost, (losses, logits), allow_unused=True)
    assert reached is None and (taught != 0).any()


def test_tokens_of_which_nothing_is_asked_cost_nothing() -> None:
    """Their losses are all 0, which else would say: no step helps."""
    trace, outcomes = case(
        torch.randn(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64), [3, 3]
    )
    cost = GateTarget()(trace, outcomes._replace(has_target=torch.tensor([[False, True]])))[0]
    assert cost[0] == 0 and cost[1] > 0, (
        "and a token that is right from the first step is taught to stop"
    )


def test_a_saturated_gate_still_learns() -> None:
    """From the hazard instead of its logit, the gradient would be 0 or not a number."""
    logits = torch.tensor([[0.0, 60.0], [0.0, -60.0]], requires_grad=True)
    cost = GateTarget()(*case(logits, torch.tensor([[3.0, 1.0], [1.0, 1.0]]), [2, 2]))
    (found,) = torch.autograd.grad(cost.sum(), logits)
    assert cost.isfinite().all() and found[0, 1] > 0.9 and found[1, 1] < -0.4


@pytest.mark.parametrize("ahead", [False, True])
def test_its_gradient_on_the_gate_is_that_of_finite_differences(ahead: bool) -> None:
    rule = ExitGate(DIM, -0.5)
    nn.init.normal_(rule.gate.weight, std=0.4)
    running = Recurrence(Block(DIM, 2, rotary=False), rule, max_steps=LIMIT).double()
    x, losses = (
        torch.randn(2, 4, DIM, dtype=torch.float64),
        torch.rand(2, 4, LIMIT, dtype=torch.float64),
    )

    def total() -> Tensor:
        _, trace = running(x, VALID)
        return GateTarget(ahead=ahead)(trace, outcomes_of(trace, losses)).sum()

    wanted, small = list(rule.parameters()), 1e-6
    for parameter, gradient in zip(wanted, torch.autograd.grad(total(), wanted), strict=True):
        assert (gradient != 0).any()
        flat, numbers = parameter.data.view(-1), gradient.flatten()
        for place in range(len(flat)):
            flat[place] += small
            above = total().item()
            flat[place] -= 2 * small
            below = total().item()
            flat[place] += small
            assert numbers[place].item() == pytest.approx(
                (above - below) / (2 * small), rel=1e-5, abs=1e-7
            )


def test_padding_is_free() -> None:
    running = Recurrence(Block(DIM, 2, rotary=False), ExitGate(DIM), max_steps=LIMIT)
    _, trace = running(torch.randn(2, 4, DIM), VALID)
    cost = GateTarget()(trace, outcomes_of(trace, torch.rand(2, 4, LIMIT)))
    assert (cost[~VALID] == 0).all() and (cost[VALID] > 0).all()


def test_a_rule_without_an_exit_logit_is_refused() -> None:
    _, trace = Recurrence(Block(DIM, 1), GravesACT(DIM), max_steps=3)(torch.randn(1, 2, DIM))
    with pytest.raises(UsageError, match="finds no exit_logit"):
        GateTarget()(trace, outcomes_of(trace, trace.mass))


@pytest.mark.parametrize("sharpness", [0.0, -50.0])
def test_a_sharpness_that_cannot_work_is_refused(sharpness: float) -> None:
    with pytest.raises(UsageError, match=f"sharpness is {sharpness}"):
        GateTarget(sharpness)


def test_what_it_says_of_itself() -> None:
    assert GateTarget.unit == "nats" and GateTarget.default_penalty == 1.0
    assert GateTarget.needs_outcomes and not GateTarget.needs_spread_mass
