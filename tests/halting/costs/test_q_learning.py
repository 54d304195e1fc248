"""What trains the two values of QHalt, against numbers worked out by hand and finite
differences."""

import math

import pytest
import torch
from q_halt_loops import LIMIT, VALID, halting_steps, loop_of, outcomes_of, q_of, view
from torch import Tensor

from act import Block, Recurrence
from halting.costs.cost import StepOutcomes
from halting.costs.q_learning import QLearning
from halting.errors import UsageError
from halting.rules.graves_act import GravesACT


def bce(logit: float, target: float) -> float:
    chance = 1 / (1 + math.exp(-logit))
    return -target * math.log(chance) - (1 - target) * math.log(1 - chance)


def cost_by_hand(
    q_halt: list[float], q_continue: list[float], right: list[bool], stopped: int, limit: int
) -> float:
    """The loss of one sequence that halted at step `stopped`, averaged over its steps; `q_halt` of
    all that ran."""
    total = 0.0
    for n in range(1, stopped + 1):
        total += bce(q_halt[n - 1], float(right[n - 1]))
        if n < len(q_halt):
            ahead = q_halt[n] if n + 1 == limit else max(q_halt[n], q_continue[n])
            total += bce(q_continue[n - 1], 1 / (1 + math.exp(-ahead)))
    return total / 2 / stopped


@pytest.mark.parametrize(("training", "explore"), [(True, 0.0), (True, 1.0), (False, 0.0)])
def test_the_cost_is_the_papers_number_for_number(training: bool, explore: float) -> None:
    """In evaluation nobody looks ahead, so the last step has no second term, whoever goes on in the
    batch."""
    loop, x = loop_of(training, explore)
    _, trace = loop(x, VALID)
    outcomes = outcomes_of(trace)
    cost = QLearning()(trace, outcomes)
    for row, stopped in enumerate(halting_steps(trace)):
        token = int(VALID[row].nonzero()[0])
        q_halt, q_continue = (
            trace.aux[name][row, token].tolist() for name in ("q_halt", "q_continue")
        )
        right = [bool(outcomes.correct[row, VALID[row], n].all()) for n in range(trace.num_steps)]
        computed = int(trace.steps[row, token])
        expected = cost_by_hand(q_halt[:computed], q_continue, right, stopped, LIMIT)
        assert cost[row][VALID[row]].tolist() == pytest.approx(
            [expected] * int(VALID[row].sum()), rel=1e-12
        )
    assert (cost[~VALID] == 0).all()


def test_before_the_limit_going_on_is_worth_what_halting_at_the_limit_is() -> None:
    """There is nothing but halting left at N, however much q_continue promises."""
    rule, state = q_of([0.3], [2.0])
    memory, _ = rule.begin(view(state, [0]))
    assert rule.decide(view(state, [0], LIMIT - 1), memory)[0].aux["value"].item() == pytest.approx(
        2.0
    )
    assert rule.decide(view(state, [0], LIMIT), memory)[0].aux["value"].item() == pytest.approx(0.3)


def test_a_single_step_is_trained_by_its_outcome_alone() -> None:
    loop, x = loop_of(training=True)
    _, trace = loop(x, VALID, max_steps=1)
    cost = QLearning()(trace, outcomes_of(trace))
    for row in range(4):
        token = int(VALID[row].nonzero()[0])
        right = bool(outcomes_of(trace).sequence_correct[row, 0])
        assert cost[row, token].item() == pytest.approx(
            bce(trace.aux["q_halt"][row, token, 0].item(), right) / 2
        )


def test_a_sequence_is_right_when_all_that_is_asked_is_right() -> None:
    correct = torch.tensor(
        [[[1, 0], [0, 0], [1, 1]], [[1, 1], [0, 1], [0, 1]], [[0, 0], [0, 0], [0, 0]]]
    ).bool()
    asked = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    outcomes = StepOutcomes(torch.zeros(3, 3, 2), torch.zeros(3, 3, 2).long(), correct, asked)
    assert outcomes.sequence_correct.tolist() == [[True, False], [False, True], [True, True]]


def test_what_is_not_asked_does_not_change_the_cost() -> None:
    loop, x = loop_of(training=True)
    _, trace = loop(x, VALID)
    asked = VALID & (torch.arange(4) != 2)
    with_gaps = outcomes_of(trace, asked)
    torch.testing.assert_close(
        QLearning()(trace, with_gaps), QLearning()(trace, outcomes_of(trace))
    )


def test_no_gradient_goes_into_the_target_nor_to_the_step_that_looks_ahead() -> None:
    loop, x = loop_of(training=True)
    _, trace = loop(x, VALID)
    outcomes = outcomes_of(trace)
    leaves = {
        name: trace.aux[name].detach().clone().requires_grad_()
        for name in ("q_halt", "q_continue", "value")
    }
    QLearning()(trace._replace(aux={**trace.aux, **leaves}), outcomes).sum().backward()
    assert leaves["value"].grad is None
    looked = trace.aux["looks_ahead"]
    assert looked.any()
    trained = trace.ran & ~looked
    of_halt, of_continue = leaves["q_halt"].grad, leaves["q_continue"].grad
    assert of_halt is not None and of_continue is not None
    assert torch.equal(of_halt != 0, trained)
    assert torch.equal(of_continue != 0, trained & (torch.arange(1, LIMIT + 1) < LIMIT))


def test_its_gradient_alone_reaches_the_gate_and_is_that_of_finite_differences() -> None:
    """With the target held, which is what the paper descends. Letting it move gives other
    numbers."""
    loop, x = loop_of(training=True)
    _, before = loop(x, VALID)
    outcomes, held = outcomes_of(before), before.aux["value"].detach()

    def total(hold: bool) -> Tensor:
        _, trace = loop(x, VALID)
        assert torch.equal(trace.steps, before.steps), "no derivative where the step count jumps"
        aux = {**trace.aux, "value": held} if hold else trace.aux
        return QLearning()(trace._replace(aux=aux), outcomes).sum()

    wanted = list(loop.rule.parameters())
    found = torch.autograd.grad(total(hold=False), wanted)
    small, leaks = 1e-6, []
    for parameter, gradient in zip(wanted, found, strict=True):
        assert (gradient != 0).all()
        flat = parameter.data.view(-1)
        for place in range(len(flat)):
            slopes = []
            for hold in (True, False):
                flat[place] += small
                above = total(hold).item()
                flat[place] -= 2 * small
                below = total(hold).item()
                flat[place] += small
                slopes.append((above - below) / (2 * small))
            assert gradient.flatten()[place].item() == pytest.approx(slopes[0], rel=1e-5, abs=1e-7)
            leaks.append(abs(slopes[0] - slopes[1]))
    assert max(leaks) > 1e-3, (
        "the target does not move, so the test could not see a gradient through it"
    )


def test_another_rules_trace_is_refused() -> None:
    _, trace = Recurrence(Block(6, 2, rotary=False), GravesACT(6), max_steps=2)(
        torch.randn(1, 3, 6)
    )
    with pytest.raises(UsageError, match="no q_halt and no q_continue and no value.*Use QHalt"):
        QLearning()(trace, outcomes_of(trace))
