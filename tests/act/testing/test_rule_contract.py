"""The laws, for every rule that comes with the core, its wrappers, and a hard exit."""

import torch

from act.testing import HaltingRuleContract
from halting import FixedSteps, GravesACT, HaltingRule, MaxSteps, MinSteps, PerSequence
from halting.mass import halting_dtype
from halting.readout import EveryStep, FinalState
from halting.step import Memory, StepDecision, StepView


class HashExit(HaltingRule):
    """A hard exit: leaves once a hash of its state is big. Draws, remembers and scales its update
    too, so that those seams are exercised before any published rule needs them."""

    default_readout = EveryStep
    gives_gain = True
    gives_aux = ("moved",)

    def __init__(self, eagerness: float = 0.0):
        super().__init__()
        self.eagerness = eagerness

    def begin(self, view: StepView) -> tuple[Memory, torch.Tensor | None]:
        wide = view.state.to(halting_dtype(view.state.dtype))
        return {"start": wide, "nested": (torch.zeros_like(view.step), None)}, 0.5 + wide.sum(
            -1
        ).sigmoid()

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict) and isinstance(memory["start"], torch.Tensor)
        assert isinstance(memory["nested"], tuple) and isinstance(memory["nested"][0], torch.Tensor)
        start, count = memory["start"], memory["nested"][0]
        assert torch.equal(count + 1, view.step)
        moved = view.state.to(start.dtype) - start
        score = (3 * moved.sum(-1)).sin()
        halt = score > 0.5 - self.eagerness + 0.5 * view.uniform()
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=halt,
            score=score,
            gain=1 + 0.3 * score,
            aux={"moved": moved},
        )
        return decision, {"start": start, "nested": (count + 1, None)}


class LogitExit(HaltingRule):
    """Leaves once the most likely answer is likely enough."""

    reads_logits = True
    default_readout = FinalState

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logits = view.logits()
        score = logits.to(halting_dtype(logits.dtype)).softmax(-1).amax(-1)
        return StepDecision(
            mass=torch.zeros_like(view.remaining), halt=score > 0.7, score=score
        ), None


class TestGravesACT(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return GravesACT(dim)


class TestGravesACTDeepAndStrict(HaltingRuleContract):
    seeds = (7,)
    max_steps = 6

    def make_rule(self, dim: int) -> HaltingRule:
        return GravesACT(dim, bias_init=-3.0, epsilon=0.0)

    def prepare(self, rule: HaltingRule) -> None:
        assert isinstance(rule, GravesACT)
        torch.nn.init.normal_(rule.gate.weight, std=1.5)


class TestGravesACTShallow(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return GravesACT(dim, bias_init=1.0, epsilon=0.3)

    def prepare(self, rule: HaltingRule) -> None:
        assert isinstance(rule, GravesACT)
        torch.nn.init.normal_(rule.gate.weight)


class TestFixedSteps(HaltingRuleContract):
    seeds = (7,)
    uniform_depth = True

    def make_rule(self, dim: int) -> HaltingRule:
        return FixedSteps(3)


class TestFixedStepsToTheLimit(HaltingRuleContract):
    seeds = (14,)
    uniform_depth = True

    def make_rule(self, dim: int) -> HaltingRule:
        return FixedSteps()


class TestMinSteps(HaltingRuleContract):
    seeds = (0,)
    max_steps = 5

    def make_rule(self, dim: int) -> HaltingRule:
        return MinSteps(GravesACT(dim), 2)


class TestMaxSteps(HaltingRuleContract):
    seeds = (7,)

    def make_rule(self, dim: int) -> HaltingRule:
        return MaxSteps(GravesACT(dim), 3)


class TestGravesACTPerSequence(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(GravesACT(dim))


class TestFixedStepsPerSequence(HaltingRuleContract):
    seeds = (7,)
    uniform_depth = True

    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(FixedSteps(2))


class TestHashExit(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return HashExit()


class TestHashExitPerSequence(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return PerSequence(HashExit(eagerness=0.8))


class TestLogitExit(HaltingRuleContract):
    def make_rule(self, dim: int) -> HaltingRule:
        return LogitExit()
