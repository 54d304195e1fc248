"""The laws, for the rules that learn from what the answers turn out to be."""

from act.testing import HaltingRuleContract
from halting.readout import EveryStep
from halting.rule import HaltingRule
from halting.rules.correctness_halt import CorrectnessHalt
from halting.rules.q_halt import QHalt
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence


class TestQHalt(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return QHalt(dim)


class TestQHaltAlwaysExploring(HaltingRuleContract):
    seeds = (7,)
    max_steps = 6

    def make_rule(self, dim: int) -> HaltingRule:
        return QHalt(dim, explore=1.0)


class TestQHaltFromStepTwo(HaltingRuleContract):
    seeds = (7,)
    max_steps = 6

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(QHalt(dim), 2)


class TestQHaltPerSequence(HaltingRuleContract):
    """It already halts a sequence as one, so the wrapper changes nothing."""

    seeds = (14,)

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(QHalt(dim))


class QHaltReadAtItsEnd(QHalt):
    """With another readout than the one that trains it."""

    default_readout = EveryStep


class TestQHaltReadAtItsEnd(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return QHaltReadAtItsEnd(dim)


class TestCorrectnessHalt(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return CorrectnessHalt(dim)
