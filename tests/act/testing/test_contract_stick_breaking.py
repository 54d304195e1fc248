"""The laws, for the stick-breaking rule of the Sparse Universal Transformer."""

import torch

from act.testing import HaltingRuleContract
from halting.rule import HaltingRule
from halting.rules.stick_breaking import StickBreaking
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence


class TestStickBreaking(HaltingRuleContract):
    """As published, with weights that let some tokens spend 0.999 within a few steps."""

    max_steps = 5

    def make_rule(self, dim: int) -> HaltingRule:
        return StickBreaking(dim)

    def prepare(self, rule: HaltingRule) -> None:
        for parameter in rule.parameters():
            torch.nn.init.normal_(parameter, std=1.5)


class TestStickBreakingLowered(HaltingRuleContract):
    """The threshold lowered after training, as the paper does to save compute."""

    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return StickBreaking(dim, threshold=0.7)


class TestStickBreakingNeverSpent(HaltingRuleContract):
    """Threshold 1: all tokens go on to the limit, unless a hazard is 1 to the last digit."""

    seeds = (14,)
    uniform_depth = True

    def make_rule(self, dim: int) -> HaltingRule:
        return StickBreaking(dim, threshold=1.0)

    def prepare(self, rule: HaltingRule) -> None:
        for parameter in rule.parameters():
            torch.nn.init.normal_(parameter, std=0.3)


class TestStickBreakingPerSequence(HaltingRuleContract):
    seeds = (1, 3)
    max_steps = 6

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(StickBreaking(dim, threshold=0.8))

    def prepare(self, rule: HaltingRule) -> None:
        for parameter in rule.parameters():
            torch.nn.init.normal_(parameter, std=0.5)


class TestMinStepsOfStickBreaking(HaltingRuleContract):
    seeds = (0,)
    max_steps = 5

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(StickBreaking(dim, threshold=0.8), 2)
