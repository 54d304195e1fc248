"""The laws, for CALM's early-exit classifier, alone and inside wrappers."""

from act.testing import HaltingRuleContract
from halting.rule import HaltingRule
from halting.rules.early_exit_classifier import EarlyExitClassifier
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence


class TestEarlyExitClassifier(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return EarlyExitClassifier(dim)


class TestEarlyExitClassifierDecaying(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(EarlyExitClassifier(dim, threshold=0.6, decay=4.0, decay_length=6), 2)


class TestEarlyExitClassifierPerSequence(HaltingRuleContract):
    seeds = (0, 7)

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(EarlyExitClassifier(dim, threshold=0.25))
