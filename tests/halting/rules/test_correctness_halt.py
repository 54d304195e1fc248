"""Halting once the answer is thought to be right."""

import math

import pytest
import torch
from torch import Tensor, nn

from act import Block, Recurrence
from halting.costs.correctness import Correctness
from halting.costs.cost import StepOutcomes
from halting.errors import UsageError
from halting.readout import DeepSupervision
from halting.rules.correctness_halt import CorrectnessHalt
from halting.rules.graves_act import GravesACT
from halting.trace import LoopTrace

VALID = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 1, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
LIMIT = 5


def loop_of(training: bool) -> tuple[Recurrence, Tensor]:
    torch.manual_seed(3)
    rule = CorrectnessHalt(6, bias_init=-0.3)
    nn.init.normal_(rule.gate.weight, std=0.5)
    block = Block(6, 2, rotary=False, step_signal="sinusoidal")
    return Recurrence(block, rule, max_steps=LIMIT).double().train(training), torch.randn(
        4, 4, 6
    ).double()


def outcomes_of(trace: LoopTrace, asked: Tensor) -> StepOutcomes:
    """Right at every other step, but for one token of the first sequence."""
    right = torch.arange(trace.num_steps) % 2 == torch.arange(4).unsqueeze(1) % 2
    correct = (right.unsqueeze(1) & trace.ran & asked.unsqueeze(-1)).clone()
    correct[0, 1] = False
    return StepOutcomes(
        torch.zeros_like(trace.mass), torch.zeros_like(trace.mass).long(), correct, asked
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_sequence_leaves_at_the_first_step_that_it_thinks_right(training: bool) -> None:
    """In evaluation as in training; TRM's public code runs to the limit there. No step is computed
    to look ahead."""
    loop, x = loop_of(training)
    output, trace = loop(x, VALID)
    logits = trace.aux["q_correct"]
    for row in range(4):
        token = int(VALID[row].nonzero()[0])
        above = [n for n in range(1, LIMIT + 1) if logits[row, token, n - 1] > 0]
        stopped = above[0] if above else LIMIT
        assert (trace.steps[row][VALID[row]] == stopped).all() and (
            trace.mass[row, VALID[row], stopped - 1] == 1
        ).all()
    assert len(trace.steps[VALID].unique()) > 2
    assert (
        torch.equal(loop.rule.ponder(trace), trace.steps.double()) and (output[~VALID] == 0).all()
    )


def test_its_logit_is_that_of_the_mean_state() -> None:
    loop, x = loop_of(True)
    _, trace = loop(x, VALID)
    rule = loop.rule
    assert trace.states is not None and isinstance(rule, CorrectnessHalt)
    states = trace.states.unpack(trace.states.values, 4, 4, trace.num_steps)
    for row in range(4):
        for n in range(int(trace.steps[row].max())):
            mean = (
                sum(states[row, token, n] for token in range(4) if VALID[row, token])
                / VALID[row].sum()
            )
            expected = (rule.gate.weight[0] @ mean + rule.gate.bias[0]).item()
            got = trace.aux["q_correct"][row, VALID[row], n].tolist()
            assert got == pytest.approx([expected] * len(got))


def test_at_the_start_nobody_halts() -> None:
    _, trace = Recurrence(Block(6, 2, rotary=False), CorrectnessHalt(6), max_steps=LIMIT)(
        torch.randn(4, 4, 6), VALID
    )
    assert (trace.steps[VALID] == LIMIT).all() and (trace.aux["q_correct"][VALID] == -5).all()


@pytest.mark.parametrize(
    "asked", [VALID, VALID & (torch.arange(4) != 1)], ids=["all asked", "not the wrong token"]
)
def test_the_cost_number_for_number(asked: Tensor) -> None:
    loop, x = loop_of(True)
    _, trace = loop(x, VALID)
    outcomes = outcomes_of(trace, asked)
    cost = Correctness()(trace, outcomes)
    for row in range(4):
        token, total, steps = int(VALID[row].nonzero()[0]), 0.0, int(trace.steps[row].max())
        for n in range(steps):
            chance = 1 / (1 + math.exp(-trace.aux["q_correct"][row, token, n].item()))
            right = all(outcomes.correct[row, place, n] for place in range(4) if asked[row, place])
            assert row or right == (n % 2 == 0 and not asked[0, 1])
            total -= math.log(chance if right else 1 - chance)
        assert cost[row][VALID[row]].tolist() == pytest.approx(
            [total / steps] * int(VALID[row].sum()), rel=1e-12
        )
    assert (cost[~VALID] == 0).all()


def test_its_gradient_alone_reaches_the_gate_and_is_that_of_finite_differences() -> None:
    loop, x = loop_of(True)
    _, before = loop(x, VALID)
    outcomes = outcomes_of(before, VALID)

    def total() -> Tensor:
        _, trace = loop(x, VALID)
        assert torch.equal(trace.steps, before.steps), "no derivative where the step count jumps"
        return Correctness()(trace, outcomes).sum()

    wanted = list(loop.rule.parameters())
    small = 1e-6
    for parameter, gradient in zip(wanted, torch.autograd.grad(total(), wanted), strict=True):
        assert (gradient != 0).all()
        flat = parameter.data.view(-1)
        for place in range(len(flat)):
            flat[place] += small
            above = total().item()
            flat[place] -= 2 * small
            below = total().item()
            flat[place] += small
            assert gradient.flatten()[place].item() == pytest.approx(
                (above - below) / (2 * small), rel=1e-5, abs=1e-7
            )


def test_a_higher_threshold_asks_for_better_odds() -> None:
    """0.5 is q > 0, as published; on a trained model another may be set."""
    seen = []
    for threshold in (0.5, 0.6):
        loop, x = loop_of(False)
        rule = loop.rule
        assert isinstance(rule, CorrectnessHalt)
        loop.rule = CorrectnessHalt(6, threshold=threshold).double().eval()
        loop.rule.load_state_dict(rule.state_dict())
        _, trace = loop(x, VALID)
        chance = trace.aux["q_correct"].sigmoid().masked_fill(~trace.ran, 0.0)
        expected = (
            torch.where(
                (chance > threshold).any(-1), (chance > threshold).long().argmax(-1) + 1, LIMIT
            )
            * VALID
        )
        assert torch.equal(trace.steps, expected)
        seen.append(trace.steps.sum())
    assert seen[0] < seen[1]


@pytest.mark.parametrize("threshold", [0.0, 1.0, -2.0, math.nan])
def test_a_threshold_that_is_no_chance_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"threshold is .*probability in \(0, 1\)"):
        CorrectnessHalt(6, threshold=threshold)


def test_its_defaults() -> None:
    assert (
        CorrectnessHalt.default_readout is DeepSupervision
        and CorrectnessHalt.default_cost is Correctness
    )
    assert (
        not CorrectnessHalt.causal
        and not CorrectnessHalt.spreads_mass
        and not CorrectnessHalt.reads_logits
    )
    assert (
        Correctness.needs_outcomes
        and not Correctness.needs_spread_mass
        and Correctness.default_penalty == 1.0
    )


def test_another_rules_trace_is_refused() -> None:
    _, trace = Recurrence(Block(6, 2, rotary=False), GravesACT(6), max_steps=2)(
        torch.randn(4, 4, 6), VALID
    )
    with pytest.raises(UsageError, match=r"no q_correct.*Use CorrectnessHalt"):
        Correctness()(trace, outcomes_of(trace, VALID))
