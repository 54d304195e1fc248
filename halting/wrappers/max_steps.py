"""A step limit for one rule."""

from dataclasses import replace

from torch import Tensor

from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.wrappers.wrapper import RuleWrapper, at_least_one


class MaxSteps(RuleWrapper):
    """Everyone has left by step `steps`, which takes the remaining mass: to the rule inside, that
    is the step limit.

    Args:
        rule: the rule inside.
        steps: the last step, ≥ 1.

    Raises:
        UsageError: for less than 1.
    """

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = at_least_one(self, steps)

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return self.rule.begin(self._limited(view))

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(self._limited(view), memory)
        return replace(decision, halt=decision.halt | (view.step >= self.steps)), memory

    def fixed_depth(self, max_steps: int) -> int | None:
        return self.rule.fixed_depth(min(max_steps, self.steps))

    def _limited(self, view: StepView) -> StepView:
        return replace(view, max_steps=min(view.max_steps, self.steps))
