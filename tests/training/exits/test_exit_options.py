"""Exits are written as words, and take the options that their rules have."""

import pytest
import torch
from small_runs import rule_of, run_of

from halting import GravesACT, MinSteps, OneAhead, PerSequence, UsageError, WeightedMean
from halting.rules.confidence_exit import ConfidenceExit
from halting.rules.convergence_exit import ConvergenceExit
from training.exits.exit import Exit, parse_exit


@pytest.fixture
def run(tmp_path):
    """One trained, so to say, with ACT."""
    return run_of(tmp_path)


def test_the_learned_exit_takes_other_options_with_its_trained_weights(run):
    tokens = run.task.batch("test", 0, 16).tokens
    with torch.no_grad():
        learned = run.model(tokens)
        with parse_exit("learned:epsilon=0.6").applied_to(run):
            again = rule_of(run)
            assert isinstance(again, GravesACT) and again.epsilon == 0.6 and not again.training
            assert isinstance(run.model.recurrence.readout, WeightedMean)
            early = run.model(tokens)
        with parse_exit("learned:epsilon=0.01").applied_to(run):
            torch.testing.assert_close(run.model(tokens).logits, learned.logits)
        torch.testing.assert_close(run.model(tokens).logits, learned.logits)
    first, last = early.trace.steps, learned.trace.steps
    assert (first <= last).all() and (first < last).any()


def test_options_reach_the_rule_inside_its_wrappers(tmp_path):
    run = run_of(tmp_path, halting={"kind": "GravesACT", "min_steps": 2, "per_sequence": True})
    with parse_exit("learned:epsilon=0.3").applied_to(run):
        outer = rule_of(run)
        assert isinstance(outer, PerSequence) and isinstance(outer.rule, MinSteps)
        assert isinstance(outer.rule.rule, GravesACT) and outer.rule.rule.epsilon == 0.3
        assert torch.equal(
            outer.rule.rule.gate.weight,
            run.model.state_dict()["recurrence.rule.rule.rule.gate.weight"],
        )


def test_a_rule_that_is_built_anew_draws_nothing(tmp_path):
    """Its weights are drawn before the trained ones take their place; what is drawn next must not
    depend on that."""
    run = run_of(tmp_path, halting={"kind": "halting.rules.stick_breaking:StickBreaking"})
    before = {name: value.clone() for name, value in rule_of(run).state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    with parse_exit("learned:threshold=0.7").applied_to(run):
        assert torch.equal(torch.rand(1), drawn)
        assert all(
            torch.equal(value, before[name]) for name, value in rule_of(run).state_dict().items()
        )


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
    with pytest.raises(UsageError, match=words), parse_exit(spec).applied_to(run):
        raise AssertionError
    assert rule_of(run) is before


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
        assert isinstance(rule, ConvergenceExit) and (rule.criterion, rule.threshold) == (
            criterion,
            threshold,
        )
    for spec, measure, threshold in (
        ("confidence", "max", 0.9),
        ("confidence:0.7", "max", 0.7),
        ("confidence:gap:0.5", "gap", 0.5),
        ("confidence:entropy:0.2", "entropy", 0.2),
    ):
        rule = parse_exit(spec).rule
        assert isinstance(rule, ConfidenceExit) and (rule.measure, rule.threshold) == (
            measure,
            threshold,
        )
    rule = parse_exit("confidence:gap:0.5:decay=4,decay-length=64").rule
    assert isinstance(rule, ConfidenceExit) and (rule.decay, rule.decay_length) == (4, 64)


@pytest.mark.parametrize(
    "wrong",
    [
        *("fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:two", "fixed:2:3", "learnt", "ponder"),
        *(
            "learned:8",
            "learned:",
            "learned:q",
            "learned:q=",
            "learned:a=1:b=2",
            "confidence:0.9:0.9",
        ),
        *(
            "convergence:",
            "convergence:kl:",
            "convergence:1e-3:kl",
            "convergence:kl:1:2",
            "convergence:kl:kl",
        ),
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
        parse_exit("learned:hidden=8").applied_to(run),
    ):
        raise AssertionError
    with parse_exit("learned:hidden=4").applied_to(run):
        assert type(rule_of(run)).__name__ == "Wide"


def test_other_options_keep_the_decision_one_step_ahead(tmp_path):
    run = run_of(tmp_path, halting={"kind": "GravesACT", "one_ahead": True})
    tokens = run.task.batch("test", 0, 4).tokens
    with torch.no_grad(), parse_exit("learned:epsilon=0.99").applied_to(run):
        assert isinstance(rule_of(run), OneAhead)
        assert run.model(tokens).trace.steps.min() == 2
