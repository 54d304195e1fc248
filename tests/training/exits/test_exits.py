"""Had it stopped at step n: one meaning, whoever asks; and exits other than the trained one."""

import pytest
import torch
from small_runs import rule_of, run_of

from act import Recurrence
from act.blocks.block import Block
from halting import (
    DeepSupervision,
    EveryStep,
    FinalState,
    FixedSteps,
    GravesACT,
    HaltingRule,
    MinSteps,
    StopAt,
    UsageError,
)
from halting.readout import Readout
from halting.rules.confidence_exit import ConfidenceExit
from halting.rules.convergence_exit import ConvergenceExit
from halting.step import Memory, StepDecision, StepView
from halting.wrappers.exit_by import ExitBy
from training.exits.evaluate_exit import evaluate_exit
from training.exits.exit import Exit, parse_exit
from training.tasks.task import Batch


@pytest.fixture
def run(tmp_path):
    """One trained, so to say, with ACT."""
    return run_of(tmp_path)


def alone(task, number: int = 40) -> Batch:
    """Sequences of one token: what a token attends to is then its own state."""
    batch = task.batch("test", 0, number)
    return Batch(
        *(part[:, :1] for part in (batch.tokens, batch.targets, batch.valid, batch.difficulty))
    )


def test_fixed_depth_is_what_the_lens_says_at_that_step(run):
    tokens = alone(run.task).tokens
    with torch.no_grad():
        learned = run.model(tokens, record_lens=True)
        assert len(learned.trace.steps.unique()) > 2
        for depth in range(1, 7):
            with Exit(f"fixed:{depth}", depth).applied_to(run):
                fixed = run.model(tokens, max_steps=depth)
            assert (fixed.trace.steps == depth).all()
            there = learned.step_logits.step == depth - 1
            lens = learned.step_logits.values[there]
            torch.testing.assert_close(
                fixed.logits.flatten(0, 1)[learned.step_logits.index[there]], lens
            )


def test_beyond_the_step_at_which_it_left_a_token_has_nothing_more_to_spend(run):
    tokens = alone(run.task).tokens
    with torch.no_grad():
        learned = run.model(tokens)
        with Exit("fixed:12", 12).applied_to(run):
            fixed = run.model(tokens, max_steps=12)
    early = learned.trace.steps < 6
    assert early.any() and (fixed.trace.steps == 12).all()
    torch.testing.assert_close(fixed.logits[early], learned.logits[early])
    torch.testing.assert_close(fixed.trace.mass.sum(-1), torch.ones_like(fixed.trace.mass[..., 0]))


def test_the_bare_state_is_another_question(run):
    tokens = run.task.batch("test", 0, 8).tokens
    with torch.no_grad():
        with Exit("fixed:4", 4, bare=True).applied_to(run):
            assert isinstance(rule_of(run), FixedSteps) and isinstance(
                run.model.recurrence.readout, FinalState
            )
            bare = run.model(tokens, max_steps=4)
        with Exit("fixed:4", 4).applied_to(run):
            own = run.model(tokens, max_steps=4)
    assert not torch.allclose(bare.logits, own.logits)


@pytest.mark.parametrize(
    "spec", ["fixed:2", "convergence:kl", "confidence:0.5", "learned:epsilon=0.2"]
)
def test_an_exit_is_taken_off_again_also_after_an_error(run, spec):
    loop = run.model.recurrence
    before = (loop.rule, loop.readout, loop.head)

    def fail_under_it() -> None:
        with parse_exit(spec).applied_to(run):
            assert loop.rule is not before[0] and loop.readout is before[1]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_under_it()
    assert (loop.rule, loop.readout, loop.head) == before and loop.head is None


@pytest.mark.parametrize(
    "spec",
    [
        "convergence:0.5",
        "convergence:cosine:0.1",
        "convergence:kl:0.05",
        "confidence:0.3",
        "confidence:gap:0.1",
    ],
)
def test_under_another_exit_a_token_says_what_the_lens_says_where_it_left(run, spec):
    """The readout is ACT's weighted mean and goes on being it: the gate spends the mass, the exit
    takes the rest."""
    tokens = alone(run.task, 60).tokens
    with torch.no_grad():
        with Exit("all", rule=ConvergenceExit("argmax", 99)).applied_to(
            run
        ):  # nobody leaves: the lens of every step
            every = run.model(tokens, record_lens=True)
        with parse_exit(spec).applied_to(run):
            output = run.model(tokens)
    steps = output.trace.steps.flatten()
    assert len(steps.unique()) > 1 and (every.trace.steps == 6).all()
    for token, step in enumerate(steps.tolist()):
        there = (every.step_logits.index == token) & (every.step_logits.step == step - 1)
        torch.testing.assert_close(output.logits[token], every.step_logits.values[there])
    torch.testing.assert_close(
        output.trace.mass.sum(-1), torch.ones_like(output.trace.mass[..., 0])
    )


def test_an_exit_that_reads_logits_decides_by_what_the_model_would_say(run):
    """The first step at which the lens is sure enough, though the gate has spent its mass in its
    own way."""
    tokens = alone(run.task, 60).tokens
    with torch.no_grad():
        with Exit("all", rule=ConvergenceExit("argmax", 99)).applied_to(run):
            every = run.model(tokens, record_lens=True)
        with parse_exit("confidence:0.4").applied_to(run):
            steps = run.model(tokens).trace.steps.flatten()
    sure = (
        every.step_logits.unpack(every.step_logits.values.softmax(-1).amax(-1), 60, 1, 6).flatten(
            0, 1
        )
        >= 0.4
    )
    wanted = torch.where(sure.any(-1), sure.long().argmax(-1) + 1, 6)
    assert torch.equal(steps, wanted) and len(wanted.unique()) > 1


def test_ponder_under_another_exit_is_the_steps_that_were_executed(run):
    tally = evaluate_exit(run, parse_exit("convergence:0.5"), "test", 16, 8).figures()
    assert 1 < tally["mean_steps"] < 6 and tally["mean_ponder"] == tally["mean_steps"]


def test_a_sequence_that_was_trained_to_halt_as_one_does_so_under_another_exit(tmp_path):
    run = run_of(tmp_path, halting={"kind": "GravesACT", "per_sequence": True})
    tokens = run.task.batch("test", 0, 16).tokens
    with torch.no_grad(), parse_exit("convergence:1.0").applied_to(run):
        steps = run.model(tokens).trace.steps
    assert (steps == steps[:, :1]).all() and len(steps.unique()) > 1
    run = run_of(tmp_path)
    with torch.no_grad(), parse_exit("convergence:1.0").applied_to(run):
        assert not (run.model(tokens).trace.steps == steps).all()


def test_the_bare_state_under_an_exit_is_that_rule_alone(run):
    with Exit("convergence", rule=ConvergenceExit(), bare=True).applied_to(run):
        assert isinstance(rule_of(run), ConvergenceExit) and isinstance(
            run.model.recurrence.readout, FinalState
        )


class HardExit(HaltingRule):
    """Leaves at step 2 with all mass, and counts what it is asked in its aux."""

    default_readout = FinalState

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        at = view.step == 2
        mass = torch.where(at, view.remaining, 0.0)
        return StepDecision(mass=mass, halt=at, score=mass, aux={"asked": view.step.double()}), None


class ReadsAux(Readout):
    """Another output, and another prediction, with what the rule said."""

    def begin(self, state):
        return state

    def add(self, total, state, mass, aux=None):
        return state + (aux or {}).get("asked", torch.full_like(mass, 100.0)).unsqueeze(-1)

    def finish(self, total, state):
        assert total is not None
        return total


@pytest.mark.parametrize("readout", [FinalState(), EveryStep(), DeepSupervision()])
def test_a_hard_exit_that_is_overruled_spends_nothing_before_the_token_leaves(readout: Readout):
    torch.manual_seed(0)
    block, x = Block(8, 2).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    bare, trace = Recurrence(block, FixedSteps(4), FinalState(), max_steps=6)(x)
    for rule in (
        StopAt(HardExit(), 4),
        ExitBy(HardExit(), FixedSteps(4)),
        MinSteps(StopAt(HardExit(), 4), 1),
    ):
        output, under = Recurrence(block, rule, readout, max_steps=6)(x)
        assert (
            torch.equal(output, bare)
            and torch.equal(under.mass, trace.mass)
            and torch.equal(under.steps, trace.steps)
        )


def test_the_exit_reads_what_the_trained_rule_has_said_at_the_same_step():
    """A readout may go by the rule's aux; the logits by which the exit decides are then those of
    that output."""
    torch.manual_seed(0)
    seen: list[torch.Tensor] = []
    loop = Recurrence(Block(8, 2), ExitBy(HardExit(), ConfidenceExit()), ReadsAux(), max_steps=3)

    def head(state: torch.Tensor) -> torch.Tensor:
        seen.append(state)
        return state[:, :2] * 0

    loop.head = head
    output, trace = loop(torch.randn(1, 2, 8))
    assert (trace.steps == 3).all() and len(seen) == 3
    torch.testing.assert_close(output[0], seen[-1])


def test_an_exit_that_spreads_mass_cannot_overrule_another():
    with pytest.raises(
        UsageError, match="GravesACT cannot be the exit of a model trained with FixedSteps"
    ):
        ExitBy(FixedSteps(), GravesACT(8))


def test_a_model_with_a_coda_takes_exits_that_read_states_alone(tmp_path):
    run = run_of(
        tmp_path, model={"width": 16, "num_heads": 2, "positions": "learned", "coda_layers": 1}
    )
    for spec in ("convergence:kl", "convergence:entropy", "convergence:argmax", "confidence"):
        with (
            pytest.raises(UsageError, match=f"--exit {spec} reads logits.*a coda"),
            parse_exit(spec).applied_to(run),
        ):
            raise AssertionError
    with torch.no_grad(), parse_exit("convergence:0.5").applied_to(run):
        assert run.model(run.task.batch("test", 0, 4).tokens).logits.isfinite().all()


@pytest.mark.parametrize("rule", ["QHalt", "CorrectnessHalt", "UniversalTransformerACT"])
@pytest.mark.parametrize("exit", ["confidence:0.2", "convergence:cosine:0.05"])
def test_a_model_whose_sequences_halt_as_one_keeps_that_under_other_exits(tmp_path, rule, exit):
    run = run_of(tmp_path, halting={"kind": rule})
    batch = run.task.batch("test", 0, 40)
    with parse_exit(exit).applied_to(run), torch.no_grad():
        steps = run.model(batch.tokens, batch.valid).trace.steps
    slowest = steps.amax(1, keepdim=True).expand_as(steps)
    assert torch.equal(steps[batch.valid], slowest[batch.valid]) and len(slowest.unique()) > 1
