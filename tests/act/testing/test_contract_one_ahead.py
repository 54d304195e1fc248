"""The laws, for decisions one step ahead, around rules of every kind."""

from act.testing import HaltingRuleContract
from halting import ConvergenceExit, GravesACT, HaltingRule, OneAhead, QHalt


class TestGravesACTOneAhead(HaltingRuleContract):
    seeds = (14,)

    def make_rule(self, dim: int) -> HaltingRule:
        return OneAhead(GravesACT(dim))


class TestConvergenceOneAhead(HaltingRuleContract):
    """Reads logits, and remembers them."""

    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return OneAhead(ConvergenceExit("kl", 1.0))


class TestQHaltOneAhead(HaltingRuleContract):
    """Draws, and spends its mass one step before it leaves."""

    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return OneAhead(QHalt(dim, bias_init=0.0))
