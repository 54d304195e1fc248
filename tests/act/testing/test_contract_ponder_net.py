"""The laws, for PonderNet: training to ε, both exits of evaluation, and inside wrappers."""

import torch

from act.testing import HaltingRuleContract
from halting.rule import HaltingRule
from halting.rules.ponder_net import PonderNet
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence


class TestPonderNet(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return PonderNet(dim)


class TestPonderNetSampled(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return PonderNet(dim, sample=True)

    def prepare(self, rule: HaltingRule) -> None:
        assert isinstance(rule, PonderNet)
        torch.nn.init.normal_(rule.gate.weight, std=0.5)


class TestPonderNetDeepAndStrict(HaltingRuleContract):
    seeds = (7,)
    max_steps = 6

    def make_rule(self, dim: int) -> HaltingRule:
        return PonderNet(dim, bias_init=-3.0, epsilon=0.0, q=0.9)


class TestPonderNetFromStepTwo(HaltingRuleContract):
    seeds = (14,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(PonderNet(dim), 2)


class TestPonderNetPerSequence(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(PonderNet(dim))
