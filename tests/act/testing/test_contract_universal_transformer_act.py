"""The laws, for the Universal Transformer's ACT: all of them, though its published code breaks the
second."""

import torch

from act.testing import HaltingRuleContract
from halting.mass import halting_dtype
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.rules.universal_transformer_act import UniversalTransformerACT
from halting.step import Memory, StepDecision, StepView
from halting.wrappers.exit_by import ExitBy
from halting.wrappers.max_steps import MaxSteps
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence
from halting.wrappers.stop_at import StopAt


class SpreadOut(HaltingRuleContract):
    """Sequences cross at different steps: hazards around σ(bias), different from token to token."""

    max_steps = 6
    std = 0.4

    def prepare(self, rule: HaltingRule) -> None:
        for parameter in rule.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=self.std)


class TestUniversalTransformerACT(SpreadOut):
    def make_rule(self, dim: int) -> HaltingRule:
        return UniversalTransformerACT(dim)


class TestUniversalTransformerACTDeepAndStrict(SpreadOut):
    """Many tokens meet the limit before they cross."""

    seeds = (7,)
    std = 1.0

    def make_rule(self, dim: int) -> HaltingRule:
        return UniversalTransformerACT(dim, bias_init=-0.5, epsilon=0.0)


class TestUniversalTransformerACTPerSequence(SpreadOut):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(UniversalTransformerACT(dim))


class TestMinAndMaxStepsOfUniversalTransformerACT(SpreadOut):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MaxSteps(MinSteps(UniversalTransformerACT(dim), 3), 5)


class TestUniversalTransformerACTStoppedAt(SpreadOut):
    seeds = (14,)
    uniform_depth = True

    def make_rule(self, dim: int) -> HaltingRule:
        return StopAt(UniversalTransformerACT(dim), 3)


class SureExit(HaltingRule):
    """A hard exit that leaves once the most likely answer is likely enough."""

    reads_logits = True
    default_readout = FinalState

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logits = view.logits()
        score = logits.to(halting_dtype(logits.dtype)).softmax(-1).amax(-1)
        return StepDecision(
            mass=torch.zeros_like(view.remaining), halt=score > 0.4, score=score
        ), None


class TestPostHocExitOfUniversalTransformerACT(SpreadOut):
    """Reads what the blend would have said at each step, and lets token by token go: halted ones
    are then frozen."""

    seeds = (7, 14)

    def make_rule(self, dim: int) -> HaltingRule:
        return ExitBy(UniversalTransformerACT(dim), SureExit())
