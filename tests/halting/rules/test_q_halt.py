"""Q-learning of when to halt: what it decides and reads, and what public code gets wrong."""

import math

import pytest
import torch
from q_halt_loops import LIMIT, VALID, CountingBlock, halting_steps, loop_of, q_of, view
from torch import Tensor

from act import Block, Recurrence
from halting.costs.q_learning import QLearning
from halting.errors import UsageError
from halting.readout import DeepSupervision, EveryStep
from halting.rules.graves_act import GravesACT
from halting.rules.q_halt import QHalt
from halting.wrappers.stop_at import StopAt

# What it decides.


@pytest.mark.parametrize("training", [True, False])
def test_at_the_start_nobody_halts(training: bool) -> None:
    """HRM starts both logits at −5, equal: going on wins."""
    loop = Recurrence(Block(6, 2, rotary=False), QHalt(6, explore=0.0), max_steps=LIMIT).train(
        training
    )
    _, trace = loop(torch.randn(4, 4, 6), VALID)
    assert (trace.steps[VALID] == LIMIT).all()
    for name in ("q_halt", "q_continue"):
        assert (trace.aux[name][VALID] == -5).all()


def test_it_halts_when_halting_is_worth_strictly_more() -> None:
    rule, state = q_of([0.2, -3.0, 0.5], [0.1, -2.0, 0.5])
    decision, _ = rule.eval().decide(view(state, [0, 1, 2]), rule.begin(view(state, [0, 1, 2]))[0])
    assert decision.halt.tolist() == [True, False, False]
    torch.testing.assert_close(decision.score, torch.tensor([0.1, -1.0, 0.0]))


def test_the_gate_reads_the_mean_of_the_tokens_of_its_own_sequence() -> None:
    """Not the first position, as HRM does, which prepends one for the puzzle's identity."""
    rule, state = q_of([4.0, 1.0, -2.0, 7.0, 1.0], [0.0, 3.0, 1.0, 2.0, -1.0])
    shown = view(state, [2, 0, 2, 0, 2])
    decision, _ = rule.eval().decide(shown, rule.begin(shown)[0])
    torch.testing.assert_close(decision.aux["q_halt"], torch.tensor([1.0, 4.0, 1.0, 4.0, 1.0]))
    torch.testing.assert_close(decision.aux["q_continue"], torch.tensor([0.0, 2.5, 0.0, 2.5, 0.0]))
    assert decision.halt.all()


def test_the_mean_of_narrow_states_is_taken_wide() -> None:
    rule, _ = q_of([0.0], [0.0])
    state = (10 + torch.randn(1000, 2)).bfloat16()
    shown = view(state, [0] * 1000)
    halt = rule.decide(shown, rule.begin(shown)[0])[0].aux["q_halt"]
    assert halt.dtype == torch.float32
    torch.testing.assert_close(
        halt.double(), state.double().mean(0)[0].expand(1000), rtol=1e-6, atol=0.0
    )


def test_in_training_the_mass_is_spent_at_n_and_the_sequence_leaves_at_the_step_after() -> None:
    """The bootstrap needs q one step on. At the limit there is none, and the sequence leaves
    there."""
    loop, x = loop_of(training=True)
    _, trace = loop(x, VALID)
    at = halting_steps(trace)
    assert len({*at}) > 2 and LIMIT in at, f"the test needs several depths, not {at}"
    for row, step in enumerate(at):
        assert (trace.steps[row][VALID[row]] == min(step + 1, LIMIT)).all()
        looked = trace.aux["looks_ahead"][row][VALID[row]]
        assert looked.sum(-1).eq(int(step < LIMIT)).all() and (
            step == LIMIT or looked[:, step].all()
        )
    torch.testing.assert_close(
        loop.rule.ponder(trace), torch.tensor(at).double().unsqueeze(1) * VALID
    )


def test_in_evaluation_it_halts_and_saves_the_compute() -> None:
    """HRM's and TRM's public code runs every step there."""
    loop, x = loop_of(training=True)
    with torch.no_grad():
        at = halting_steps(loop(x, VALID)[1])
        block = loop.block
        assert isinstance(block, CountingBlock)
        block.computed = 0
        _, trace = loop.eval()(x, VALID)
    assert halting_steps(trace) == at and not trace.aux["looks_ahead"].any()
    assert torch.equal(trace.steps, torch.tensor(at).unsqueeze(1) * VALID)
    assert block.computed == sum(n * int(valid.sum()) for n, valid in zip(at, VALID, strict=True))
    assert block.computed < LIMIT * int(VALID.sum())
    torch.testing.assert_close(loop.rule.ponder(trace), trace.steps.double())


# The random minimum.


def test_the_minimum_is_drawn_once_a_sequence_with_its_chance_and_uniformly() -> None:
    rows = list(range(20_000)) * 2
    shown = view(torch.zeros(len(rows), 2), rows, limit=6, uniform=lambda: torch.rand(len(rows)))
    memory, gain = QHalt(2).train().begin(shown)
    assert gain is None and isinstance(memory, dict) and isinstance(memory["minimum"], Tensor)
    first, second = memory["minimum"].chunk(2)
    assert torch.equal(first, second), "the tokens of a sequence disagree"
    shares = torch.bincount(first, minlength=7) / len(first)
    expected = torch.tensor([0, 0.9, 0.02, 0.02, 0.02, 0.02, 0.02])
    assert (shares - expected).abs().max() < 4 * math.sqrt(0.09 / 20_000) and shares[6] > 0


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_the_minimum_at_the_ends_of_the_draw(limit: int) -> None:
    last = math.nextafter(0.1, 0.0)
    for draw, expected in ((0.0, 2), (last, max(limit, 2)), (0.1, 1), (1 - 2**-24, 1)):
        drawn = torch.tensor([draw], dtype=torch.float64)
        shown = view(torch.zeros(1, 2), [0], limit=limit, uniform=lambda drawn=drawn: drawn)
        memory, _ = QHalt(2).begin(shown)
        assert isinstance(memory, dict) and isinstance(memory["minimum"], Tensor)
        assert memory["minimum"].tolist() == [expected]


def test_who_has_a_minimum_waits_for_it() -> None:
    rule, state = q_of([1.0, 1.0], [0.0, 0.0])
    memory, _ = rule.train().begin(view(state, [0, 1], uniform=lambda: torch.tensor([0.03, 0.9])))
    spent = [rule.decide(view(state, [0, 1], step), memory)[0].mass.tolist() for step in (1, 2, 3)]
    assert spent == [[0, 1], [0, 1], [1, 1]]  # 0.03 of 0.1, of 2 .. 5: the second


def test_evaluation_draws_nothing() -> None:
    def refuse() -> Tensor:
        raise AssertionError("a draw in evaluation")

    rule, state = q_of([1.0], [0.0])
    memory, _ = rule.eval().begin(view(state, [0], uniform=refuse))
    assert rule.decide(view(state, [0], uniform=refuse), memory)[0].halt.all()


@pytest.mark.parametrize("explore", [-0.1, 1.5, math.nan])
def test_a_chance_that_is_none_is_refused(explore: float) -> None:
    with pytest.raises(UsageError, match="explore is .*probability in"):
        QHalt(4, explore=explore)


# What its readout trains and reads.


def test_its_defaults() -> None:
    assert QHalt.default_readout is DeepSupervision and QHalt.default_cost is QLearning
    assert not QHalt.causal and not QHalt.spreads_mass and not QHalt.reads_logits
    assert (
        QLearning.needs_outcomes
        and not QLearning.needs_spread_mass
        and QLearning.default_penalty == 1.0
    )


def test_deep_supervision_trains_all_steps_alike_up_to_the_one_that_halted() -> None:
    loop, x = loop_of(training=True)
    _, trace = loop(x, VALID)
    weights = loop.readout.loss_weights(trace)
    for row, stopped in enumerate(halting_steps(trace)):
        expected = torch.tensor(
            [1 / stopped if n <= stopped else 0.0 for n in range(1, LIMIT + 1)]
        ).double()
        for token in range(4):
            torch.testing.assert_close(weights[row, token], expected * VALID[row, token])
    assert DeepSupervision.keeps_states and not DeepSupervision.weighs_by


def test_deep_supervision_trains_every_step_of_a_rule_that_never_looks_ahead() -> None:
    loop = Recurrence(Block(6, 2, rotary=False), GravesACT(6), DeepSupervision(), max_steps=3)
    output, trace = loop(torch.randn(4, 4, 6), VALID)
    torch.testing.assert_close(
        DeepSupervision().loss_weights(trace), trace.ran / trace.steps.clamp(min=1).unsqueeze(-1)
    )
    assert trace.states is not None
    states = trace.states.unpack(trace.states.values, 4, 4, trace.num_steps)
    assert torch.equal(output[VALID], states[VALID, trace.steps[VALID] - 1])


def test_the_output_is_the_state_of_the_step_that_halted_in_training_too() -> None:
    """Read at the step that looks ahead, training would report another model than evaluation."""
    loop, x = loop_of(training=True)
    output, trace = loop(x, VALID)
    at = torch.tensor(halting_steps(trace))
    assert trace.states is not None
    states = trace.states.unpack(trace.states.values, 4, 4, trace.num_steps)
    for row in range(4):
        assert torch.equal(output[row][VALID[row]], states[row, VALID[row], at[row] - 1])
    torch.testing.assert_close(loop.eval()(x, VALID)[0], output)
    loop.readout = EveryStep()
    assert not torch.allclose(loop.train()(x, VALID)[0], output)


def test_had_it_stopped_later_is_the_state_of_that_step() -> None:
    """`--exit fixed:4` asks everyone for the answer of step 4, also those who would have left
    before."""
    loop, x = loop_of(training=False)
    at = halting_steps(loop(x, VALID)[1])
    rule = loop.rule
    loop.rule = StopAt(rule, 4)
    output, trace = loop(x, VALID)
    assert min(at) < 4 and (trace.steps[VALID] == 4).all()
    assert trace.states is not None
    states = trace.states.unpack(trace.states.values, 4, 4, trace.num_steps)
    assert torch.equal(output[VALID], states[VALID, 3])
    assert (loop.rule.ponder(trace)[VALID] == 4).all()
