"""The laws, for a gate that learns a hard exit."""

from act.testing import HaltingRuleContract
from halting import DistilledExit, HaltingRule


class TestDistilledExit(HaltingRuleContract):
    """Its teacher reads logits, and remembers them."""

    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return DistilledExit(dim, "convergence", "kl", 1.0)
