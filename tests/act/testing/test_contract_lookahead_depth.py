"""The laws, for depth by looking ahead."""

from act.testing import HaltingRuleContract
from halting import HaltingRule, LookaheadDepth


class TestLookaheadDepth(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return LookaheadDepth(dim)
