"""The laws, for token-choice routing."""

import torch
from torch import nn

from act.testing import HaltingRuleContract
from halting.rule import HaltingRule
from halting.rules.token_choice_router import TokenChoiceRouter
from halting.wrappers.per_sequence import PerSequence


class TestTokenChoiceRouter(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return TokenChoiceRouter(dim, self.max_steps)


class TestTokenChoiceRouterWithABias(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return TokenChoiceRouter(dim, self.max_steps, scores="sigmoid", alpha=0.1, balance="bias")

    def prepare(self, rule: HaltingRule) -> None:
        assert isinstance(rule, TokenChoiceRouter)
        nn.init.normal_(rule.router.weight)
        rule.moves.copy_(100 * torch.randn(len(rule.moves)))


class TestTokenChoiceRouterWarmingUp(HaltingRuleContract):
    """In training all tokens take all steps."""

    seeds = (14,)
    uniform_depth = True

    def make_rule(self, dim: int) -> HaltingRule:
        return TokenChoiceRouter(dim, self.max_steps, warmup=10**9)


class TestTokenChoiceRouterOfFewerDepths(HaltingRuleContract):
    seeds = (7,)
    max_steps = 5

    def make_rule(self, dim: int) -> HaltingRule:
        return TokenChoiceRouter(dim, 3)


class TestTokenChoiceRouterPerSequence(HaltingRuleContract):
    seeds = (28,)

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(TokenChoiceRouter(dim, self.max_steps))
