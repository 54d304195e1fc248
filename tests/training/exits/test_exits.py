"""Had it stopped at step n: one meaning, whoever asks; and other exits in the place of the trained one."""

import pytest
import torch
from small_runs import run_of

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
    PerSequence,
    StopAt,
    UsageError,
    WeightedMean,
)
from halting.readout import Readout
from halting.rule import Memory, StepDecision, StepView
from halting.rules.confidence_exit import ConfidenceExit
from halting.rules.convergence_exit import ConvergenceExit
from halting.wrappers.exit_by import ExitBy
from training.cli.evaluate import evaluate_exit
from training.exits.exit import Exit, parse_exit
from training.runs.loaded import Run
from training.tasks.task import Batch


@pytest.fixture
def run(tmp_path):
    """One trained, so to say, with ACT."""
    return run_of(tmp_path)


def rule_of(run: Run) -> HaltingRule:
    return run.model.recurrence.rule


def alone(task, number: int = 40) -> Batch:
    """Sequences of one token: what a token attends to is then its own state."""
    batch = task.batch("test", 0, number)
    return Batch(*(part[:, :1] for part in (batch.tokens, batch.targets, batch.valid, batch.difficulty)))


def test_fixed_depth_is_what_the_lens_says_at_that_step(run):
    tokens = alone(run.task).tokens
    with torch.no_grad():
        learned = run.model(tokens, record_lens=True)
        assert len(learned.trace.steps.unique()) > 2
        for depth in range(1, 7):
            with Exit(f"fixed:{depth}", depth).on(run):
                fixed = run.model(tokens, max_steps=depth)
            assert (fixed.trace.steps == depth).all()
            there = learned.step_logits.step == depth - 1
            lens = learned.step_logits.values[there]
            torch.testing.assert_close(fixed.logits.flatten(0, 1)[learned.step_logits.index[there]], lens)


def test_beyond_the_step_at_which_it_left_a_token_has_nothing_more_to_spend(run):
    tokens = alone(run.task).tokens
    with torch.no_grad():
        learned = run.model(tokens)
        with Exit("fixed:12", 12).on(run):
            fixed = run.model(tokens, max_steps=12)
    early = learned.trace.steps < 6
    assert early.any() and (fixed.trace.steps == 12).all()
    torch.testing.assert_close(fixed.logits[early], learned.logits[early])
    torch.testing.assert_close(fixed.trace.mass.sum(-1), torch.ones_like(fixed.trace.mass[..., 0]))


def test_the_bare_state_is_another_question(run):
    tokens = run.task.batch("test", 0, 8).tokens
    with torch.no_grad():
        with Exit("fixed:4", 4, bare=True).on(run):
            assert isinstance(rule_of(run), FixedSteps) and isinstance(run.model.recurrence.readout, FinalState)
            bare = run.model(tokens, max_steps=4)
        with Exit("fixed:4", 4).on(run):
            own = run.model(tokens, max_steps=4)
    assert not torch.allclose(bare.logits, own.logits)


@pytest.mark.parametrize("spec", ["fixed:2", "convergence:kl", "confidence:0.5", "learned:epsilon=0.2"])
def test_an_exit_is_taken_off_again_also_after_an_error(run, spec):
    loop = run.model.recurrence
    before = (loop.rule, loop.readout, loop.head)

    def fail_under_it() -> None:
        with parse_exit(spec).on(run):
            assert loop.rule is not before[0] and loop.readout is before[1]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_under_it()
    assert (loop.rule, loop.readout, loop.head) == before and loop.head is None


@pytest.mark.parametrize(
    "spec", ["convergence:0.5", "convergence:cosine:0.1", "convergence:kl:0.05", "confidence:0.3", "confidence:gap:0.1"]
)
def test_under_another_exit_a_token_says_what_the_lens_says_where_it_left(run, spec):
    """The readout is ACT's weighted mean and goes on being it: the gate spends the mass, the exit takes the rest."""
    tokens = alone(run.task, 60).tokens
    with torch.no_grad():
        with Exit("all", rule=ConvergenceExit("argmax", 99)).on(run):  # nobody leaves: the lens of every step
            every = run.model(tokens, record_lens=True)
        with parse_exit(spec).on(run):
            output = run.model(tokens)
    steps = output.trace.steps.flatten()
    assert len(steps.unique()) > 1 and (every.trace.steps == 6).all()
    for token, step in enumerate(steps.tolist()):
        there = (every.step_logits.index == token) & (every.step_logits.step == step - 1)
        torch.testing.assert_close(output.logits[token], every.step_logits.values[there])
    torch.testing.assert_close(output.trace.mass.sum(-1), torch.ones_like(output.trace.mass[..., 0]))


def test_an_exit_that_reads_logits_decides_by_what_the_model_would_say(run):
    """The first step at which the lens is sure enough, though the gate has spent its mass in its own way."""
    tokens = alone(run.task, 60).tokens
    with torch.no_grad():
        with Exit("all", rule=ConvergenceExit("argmax", 99)).on(run):
            every = run.model(tokens, record_lens=True)
        with parse_exit("confidence:0.4").on(run):
            steps = run.model(tokens).trace.steps.flatten()
    sure = every.step_logits.unpack(every.step_logits.values.softmax(-1).amax(-1), 60, 1, 6).flatten(0, 1) >= 0.4
    wanted = torch.where(sure.any(-1), sure.long().argmax(-1) + 1, 6)
    assert torch.equal(steps, wanted) and len(wanted.unique()) > 1


def test_ponder_under_another_exit_is_the_steps_that_were_executed(run):
    tally = evaluate_exit(run, parse_exit("convergence:0.5"), "test", 16, 8).figures()
    assert 1 < tally["mean_steps"] < 6 and tally["mean_ponder"] == tally["mean_steps"]


def test_a_sequence_that_was_trained_to_halt_as_one_does_so_under_another_exit(tmp_path):
    run = run_of(tmp_path, halting={"kind": "GravesACT", "per_sequence": True})
    tokens = run.task.batch("test", 0, 16).tokens
    with torch.no_grad(), parse_exit("convergence:1.0").on(run):
        steps = run.model(tokens).trace.steps
    assert (steps == steps[:, :1]).all() and len(steps.unique()) > 1
    run = run_of(tmp_path)
    with torch.no_grad(), parse_exit("convergence:1.0").on(run):
        assert not (run.model(tokens).trace.steps == steps).all()


def test_the_bare_state_under_an_exit_is_that_rule_alone(run):
    with Exit("convergence", rule=ConvergenceExit(), bare=True).on(run):
        assert isinstance(rule_of(run), ConvergenceExit) and isinstance(run.model.recurrence.readout, FinalState)


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
    for rule in (StopAt(HardExit(), 4), ExitBy(HardExit(), FixedSteps(4)), MinSteps(StopAt(HardExit(), 4), 1)):
        output, under = Recurrence(block, rule, readout, max_steps=6)(x)
        assert (
            torch.equal(output, bare) and torch.equal(under.mass, trace.mass) and torch.equal(under.steps, trace.steps)
        )


def test_the_exit_reads_what_the_trained_rule_has_said_at_the_same_step():
    """A readout may go by the rule's aux; the logits by which the exit decides are then those of that output."""
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
    with pytest.raises(UsageError, match="GravesACT cannot be the exit of a model trained with FixedSteps"):
        ExitBy(FixedSteps(), GravesACT(8))


def test_the_learned_exit_takes_other_options_with_its_trained_weights(run):
    tokens = run.task.batch("test", 0, 16).tokens
    with torch.no_grad():
        learned = run.model(tokens)
        with parse_exit("learned:epsilon=0.6").on(run):
            again = rule_of(run)
            assert isinstance(again, GravesACT) and again.epsilon == 0.6 and not again.training
            assert isinstance(run.model.recurrence.readout, WeightedMean)
            early = run.model(tokens)
        with parse_exit("learned:epsilon=0.01").on(run):
            torch.testing.assert_close(run.model(tokens).logits, learned.logits)
        torch.testing.assert_close(run.model(tokens).logits, learned.logits)
    first, last = early.trace.steps, learned.trace.steps
    assert (first <= last).all() and (first < last).any()


def test_options_reach_the_rule_inside_its_wrappers(tmp_path):
    run = run_of(tmp_path, halting={"kind": "GravesACT", "min_steps": 2, "per_sequence": True})
    with parse_exit("learned:epsilon=0.3").on(run):
        outer = rule_of(run)
        assert isinstance(outer, PerSequence) and isinstance(outer.rule, MinSteps)
        assert isinstance(outer.rule.rule, GravesACT) and outer.rule.rule.epsilon == 0.3
        assert torch.equal(outer.rule.rule.gate.weight, run.model.state_dict()["recurrence.rule.rule.rule.gate.weight"])


def test_a_rule_that_is_built_anew_draws_nothing(tmp_path):
    """Its weights are drawn before the trained ones take their place; what is drawn next must not depend on that."""
    run = run_of(tmp_path, halting={"kind": "halting.rules.stick_breaking:StickBreaking"})
    before = {name: value.clone() for name, value in rule_of(run).state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    with parse_exit("learned:threshold=0.7").on(run):
        assert torch.equal(torch.rand(1), drawn)
        assert all(torch.equal(value, before[name]) for name, value in rule_of(run).state_dict().items())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("learned:q=0.7", "GravesACT has no option q .*It has epsilon"),
        ("learned:steps=3", "no option steps .*steps is an option of FixedSteps"),
        ("learned:bias_init=0", "no option bias_init"),
        ("learned:epsilo=0.1", "Did you mean epsilon"),
        ("learned:epsilon=2.0", "epsilon is 2.0"),
        ("learned:epsilon=much", "epsilon is 'much'"),
    ],
)
def test_options_that_the_trained_rule_cannot_take(run, spec, words):
    before = rule_of(run)
    with pytest.raises(UsageError, match=words), parse_exit(spec).on(run):
        raise AssertionError
    assert rule_of(run) is before


def test_a_model_with_a_coda_takes_exits_that_read_states_alone(tmp_path):
    run = run_of(tmp_path, model={"width": 16, "num_heads": 2, "positions": "learned", "coda_layers": 1})
    for spec in ("convergence:kl", "convergence:entropy", "convergence:argmax", "confidence"):
        with pytest.raises(UsageError, match=f"--exit {spec} reads logits.*coda_layers=1"), parse_exit(spec).on(run):
            raise AssertionError
    with torch.no_grad(), parse_exit("convergence:0.5").on(run):
        assert run.model(run.task.batch("test", 0, 4).tokens).logits.isfinite().all()


def test_exits_are_written_as_words():
    assert parse_exit("learned") == Exit("learned") and parse_exit("fixed:8") == Exit("fixed:8", 8)
    assert parse_exit("learned:q=0.7,sample=true").options == {"q": 0.7, "sample": True}
    assert parse_exit("learned:bias-init=0").options == {"bias_init": 0}
    for spec, criterion, threshold in (
        ("convergence", "state", 0.03),
        ("convergence:1e-3", "state", 1e-3),
        ("convergence:kl", "kl", 5e-4),
        ("convergence:kl:1e-2", "kl", 1e-2),
        ("convergence:argmax:3", "argmax", 3),
    ):
        rule = parse_exit(spec).rule
        assert isinstance(rule, ConvergenceExit) and (rule.criterion, rule.threshold) == (criterion, threshold)
    for spec, measure, threshold in (
        ("confidence", "max", 0.9),
        ("confidence:0.7", "max", 0.7),
        ("confidence:gap:0.5", "gap", 0.5),
        ("confidence:entropy:0.2", "entropy", 0.2),
    ):
        rule = parse_exit(spec).rule
        assert isinstance(rule, ConfidenceExit) and (rule.measure, rule.threshold) == (measure, threshold)
    rule = parse_exit("confidence:gap:0.5:decay=4,decay-length=64").rule
    assert isinstance(rule, ConfidenceExit) and (rule.decay, rule.decay_length) == (4, 64)


@pytest.mark.parametrize(
    "wrong",
    [
        *("fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:two", "fixed:2:3", "learnt", "ponder"),
        *("learned:8", "learned:", "learned:q", "learned:q=", "learned:a=1:b=2", "confidence:0.9:0.9"),
        *("convergence:", "convergence:kl:", "convergence:1e-3:kl", "convergence:kl:1:2", "convergence:kl:kl"),
    ],
)
def test_what_is_no_exit(wrong):
    with pytest.raises(UsageError, match="is not known"):
        parse_exit(wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("convergence:klx", "criterion is 'klx'.*'state', 'entropy', 'kl', 'argmax' or 'cosine'"),
        ("convergence:-1", "cannot leave at state -1"),
        ("convergence:argmax:2.5", "whole number"),
        ("confidence:1.5", "cannot leave at max 1.5"),
        ("confidence:nan", "--exit confidence:nan"),
        ("confidence:threshhold=0.5", "no option threshhold.*Did you mean threshold"),
        ("confidence:decay=4", "decay_length=None"),
        ("confidence:decay=much", "decay is 'much'"),
    ],
)
def test_what_an_exit_refuses_is_said_before_anything_runs(wrong, words):
    with pytest.raises(UsageError, match=words):
        parse_exit(wrong)


@pytest.mark.parametrize("rule", ["QHalt", "CorrectnessHalt", "UniversalTransformerACT"])
@pytest.mark.parametrize("exit", ["confidence:0.2", "convergence:cosine:0.05"])
def test_a_model_whose_sequences_halt_as_one_keeps_that_under_other_exits(tmp_path, rule, exit):
    run = run_of(tmp_path, halting={"kind": rule})
    batch = run.task.batch("test", 0, 40)
    with parse_exit(exit).on(run), torch.no_grad():
        steps = run.model(batch.tokens, batch.valid).trace.steps
    slowest = steps.amax(1, keepdim=True).expand_as(steps)
    assert torch.equal(steps[batch.valid], slowest[batch.valid]) and len(slowest.unique()) > 1


WIDE = """
from torch import nn
from halting import HaltingRule, StepDecision, WeightedMean

class Wide(HaltingRule):
    spreads_mass = True
    default_readout = WeightedMean

    def __init__(self, dim: int, hidden: int = 4):
        super().__init__()
        self.hidden, self.up = hidden, nn.Linear(dim, hidden)

    def decide(self, view, memory):
        score = self.up(view.state).sum(-1)
        return StepDecision(mass=0 * view.remaining, halt=score > 0, score=score), None
"""


def test_an_option_that_changes_what_is_learned_is_refused(tmp_path):
    (tmp_path / "wide.py").write_text(WIDE)
    run = run_of(tmp_path, halting={"kind": f"{tmp_path}/wide.py:Wide"}, penalty={"value": 0.0})
    with (
        pytest.raises(UsageError, match="hidden=8 does not fit the trained rule.*shape"),
        parse_exit("learned:hidden=8").on(run),
    ):
        raise AssertionError
    with parse_exit("learned:hidden=4").on(run):
        assert type(rule_of(run)).__name__ == "Wide"
