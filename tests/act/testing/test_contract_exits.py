"""The laws, for exits without parameters, alone and in the place of a trained rule."""

import pytest
import torch

from act import Block, LoopedTransformer, Recurrence
from act.testing import HaltingRuleContract
from halting import GravesACT, HaltingRule, PerSequence, UsageError
from halting.rules.confidence_exit import ConfidenceExit
from halting.rules.convergence_exit import ConvergenceExit
from halting.wrappers.exit_by import ExitBy


class TestConvergenceOfState(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return ConvergenceExit("state", 0.8)


class TestConvergenceByCosine(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return ConvergenceExit("cosine", 0.3)


class TestConvergenceOfEntropy(HaltingRuleContract):
    seeds = (14,)

    def make_rule(self, dim: int) -> HaltingRule:
        return ConvergenceExit("entropy", 0.4)


class TestConvergenceByDivergence(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return ConvergenceExit("kl", 1.0)


class TestConvergenceOfAnswer(HaltingRuleContract):
    seeds = (0,)

    def make_rule(self, dim: int) -> HaltingRule:
        return ConvergenceExit("argmax", 1)


class TestConvergencePerSequence(HaltingRuleContract):
    seeds = (0, 7)
    max_steps = 6

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(ConvergenceExit("state", 1.0))


class TestConfidence(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return ConfidenceExit("max", 0.7)


class TestConfidenceGapWithDecay(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return ConfidenceExit("gap", 0.6, decay=4.0, decay_length=4)


class TestConfidenceEntropy(HaltingRuleContract):
    seeds = (14,)

    def make_rule(self, dim: int) -> HaltingRule:
        return ConfidenceExit("entropy", 0.8)


class TestConvergenceInThePlaceOfACT(HaltingRuleContract):
    """The readout is ACT's weighted mean, so the gate spends the mass while the exit decides who
    leaves."""

    def make_rule(self, dim: int) -> HaltingRule:
        return ExitBy(GravesACT(dim, bias_init=-1.0), ConvergenceExit("state", 0.8))


class TestConfidenceInThePlaceOfACT(HaltingRuleContract):
    seeds = (0, 7)

    def make_rule(self, dim: int) -> HaltingRule:
        return ExitBy(GravesACT(dim), ConfidenceExit("max", 0.6))


@pytest.mark.parametrize(
    "exits", [ConvergenceExit("kl"), ConvergenceExit("argmax"), ConfidenceExit()]
)
def test_a_causal_model_with_a_coda_refuses_exits_that_read_logits(exits: HaltingRule) -> None:
    with pytest.raises(UsageError, match="coda_layers=1"):
        LoopedTransformer(11, 8, 2, exits, max_steps=3, causal=True, coda_layers=1)
    model = LoopedTransformer(11, 8, 2, GravesACT(8), max_steps=3, causal=True, coda_layers=1)
    before = model.recurrence.rule
    with pytest.raises(UsageError, match="coda_layers=1"):
        model.use(exits)
    assert model.recurrence.rule is before and model.recurrence.head is None
    model.use(ConvergenceExit("state"))
    assert model(torch.zeros(1, 2, dtype=torch.int64)).trace.steps.shape == (1, 2)


def test_another_rule_brings_its_own_readout_and_the_head_that_it_reads() -> None:
    model = LoopedTransformer(11, 8, 2, GravesACT(8), max_steps=3)
    assert model.recurrence.head is None
    model.use(ConfidenceExit())
    assert (
        type(model.recurrence.readout) is ConfidenceExit.default_readout
        and model.recurrence.head is not None
    )
    assert model(torch.zeros(1, 2, dtype=torch.int64)).logits.isfinite().all()
    model.use(GravesACT(8))
    assert (
        type(model.recurrence.readout) is GravesACT.default_readout
        and model.recurrence.head is None
    )


def test_a_rule_that_is_not_causal_cannot_be_put_into_a_causal_loop() -> None:
    loop = Recurrence(Block(8, 2, causal=True), ConvergenceExit(), max_steps=2)
    with pytest.raises(UsageError, match="in a causal model"):
        loop.use(PerSequence(ConvergenceExit()))
    assert isinstance(loop.rule, ConvergenceExit)
