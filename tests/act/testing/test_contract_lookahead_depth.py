"""The laws, for depth by looking ahead, alone and inside wrappers."""

from act.testing import HaltingRuleContract
from halting import HaltingRule, LookaheadDepth, MinSteps, OneAhead


class TestLookaheadDepth(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return LookaheadDepth(dim)


class TestLookaheadDepthOneAhead(HaltingRuleContract):
    seeds = (0,)

    def make_rule(self, dim: int) -> HaltingRule:
        return OneAhead(MinSteps(LookaheadDepth(dim, threshold=0.6), 2))
