"""The laws, for expert-choice routing."""

import torch
from torch import nn

from act.testing import HaltingRuleContract
from halting.rule import HaltingRule
from halting.rules.expert_choice_router import ExpertChoiceRouter
from halting.wrappers.max_steps import MaxSteps


class TestExpertChoiceRouter(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return ExpertChoiceRouter(dim, self.max_steps, warmup=0)


class TestExpertChoiceRouterDuringWarmUp(HaltingRuleContract):
    """Early enough that the fractions differ from the last ones."""

    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return ExpertChoiceRouter(dim, self.max_steps, alpha=1.0, warmup=1000)

    def prepare(self, rule: HaltingRule) -> None:
        assert isinstance(rule, ExpertChoiceRouter)
        nn.init.normal_(rule.router.weight)
        nn.init.normal_(rule.router.bias)
        rule.updates.fill_(400)


class TestExpertChoiceRouterByThreshold(HaltingRuleContract):
    seeds = (7,)
    max_steps = 5

    def make_rule(self, dim: int) -> HaltingRule:
        return ExpertChoiceRouter(
            dim, 3, capacity="1,0.6", alpha=0.5, warmup=0, evaluation="threshold"
        )


class TestExpertChoiceRouterUnderALimit(HaltingRuleContract):
    seeds = (0,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MaxSteps(ExpertChoiceRouter(dim, 4, warmup=0), 3)


def test_the_case_of_the_warm_up_is_one() -> None:
    case = TestExpertChoiceRouterDuringWarmUp()
    rule = case.make_rule(8)
    assert isinstance(rule, ExpertChoiceRouter)
    case.prepare(rule)
    tokens, steps = torch.full((4,), 4), torch.arange(1, 5)
    assert rule._num_chosen(tokens, steps).tolist() == [4, 3, 3, 2]
    assert rule.eval()._num_chosen(tokens, steps).tolist() == [4, 3, 2, 1]
