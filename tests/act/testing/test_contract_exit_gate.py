"""The laws, for the exit gate with the costs of both of its stages, and inside wrappers."""

from act.testing import HaltingRuleContract
from halting.costs.cost import PonderCost
from halting.costs.gate_target import GateTarget
from halting.rule import HaltingRule
from halting.rules.exit_gate import ExitGate
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence


class TestExitGate(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return ExitGate(dim)


class TestExitGateInItsSecondStage(HaltingRuleContract):
    seeds = (7,)
    max_steps = 5

    def make_rule(self, dim: int) -> HaltingRule:
        return ExitGate(dim, bias_init=-1.0, q=0.8)

    def make_cost(self, rule: HaltingRule) -> PonderCost:
        return GateTarget()


class TestExitGateFromStepTwo(HaltingRuleContract):
    seeds = (14,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(ExitGate(dim), 2)


class TestExitGatePerSequence(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(ExitGate(dim))
