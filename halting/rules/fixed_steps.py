"""Every token thinks equally long: the baseline that halting has to beat."""

import torch

from halting.counts import is_count
from halting.errors import UsageError
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView


class FixedSteps(HaltingRule):
    """Everyone leaves at step k with all mass (ALBERT and other looped models); at the loop's own
    limit without a k.

    Causal. Has no gate and no cost.

    Args:
        steps: k ≥ 1; None for the loop's max_steps.

    Raises:
        UsageError: for k below 1.
    """

    default_readout = FinalState

    def __init__(self, steps: int | None = None):
        super().__init__()
        if steps is not None and not is_count(steps):
            raise UsageError(
                f"FixedSteps cannot leave at step {steps!r}.",
                "Steps count from 1, and a token must take one to have a state to read.",
                "Use a whole number, 1 or more, or leave steps out for the loop's max_steps.",
            )
        self.steps = steps

    def fixed_depth(self, max_steps: int) -> int | None:
        return max_steps if self.steps is None else min(self.steps, max_steps)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        none_yet = torch.zeros_like(view.remaining)
        halt = (
            torch.zeros_like(view.step, dtype=torch.bool)
            if self.steps is None
            else view.step >= self.steps
        )
        return StepDecision(mass=none_yet, halt=halt, score=none_yet), None
