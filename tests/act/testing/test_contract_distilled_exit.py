"""The laws, for a gate that learns a hard exit, under teachers that read logits and states."""

from act.testing import HaltingRuleContract
from halting import DistilledExit, HaltingRule, MinSteps


class TestDistilledConfidence(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return DistilledExit(dim, "confidence", "entropy", 0.8)


class TestDistilledConvergence(HaltingRuleContract):
    seeds = (0,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(DistilledExit(dim, "convergence", "state", 0.8, threshold=0.6), 2)
