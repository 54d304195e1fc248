"""Had it stopped at one step, for any rule."""

from dataclasses import replace

from torch import Tensor

from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace
from halting.wrappers.wrapper import RuleWrapper, at_least_one, trained_mass


class StopAt(RuleWrapper):
    """Everyone leaves exactly at step `steps`, which takes the mass that is left: *had it stopped
    at step n*, for any rule.

    Mass is spent as the inner rule spends it, all that is left where it would have let the token go
    (a hard exit, which is overruled, spends none before `steps`); but the token is computed on
    until `steps`. With the rule's own readout this is what the model would have said; the state
    alone is another question (`FixedSteps` with `FinalState`).

    Args:
        rule: the rule inside.
        steps: n ≥ 1.

    Raises:
        UsageError: for less than 1.
    """

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = at_least_one(self, steps)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        return replace(
            decision, mass=trained_mass(self, decision, view), halt=view.step >= self.steps
        ), memory

    def fixed_depth(self, max_steps: int) -> int | None:
        return min(self.steps, max_steps)

    def ponder(self, trace: LoopTrace) -> Tensor:
        return HaltingRule.ponder(self, trace)
