"""No exit before a step."""

from dataclasses import replace

import torch

from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.wrappers.wrapper import RuleWrapper, at_least_one, check_ranking, restricted


class MinSteps(RuleWrapper):
    """Nobody leaves, and no mass is spent, before step `steps`; from then on the inner rule
    decides.

    Args:
        rule: the rule inside; not one that ranks tokens: those that it has passed over would be
            ranked on.
        steps: the first step at which a token may leave, ≥ 1.

    Raises:
        UsageError: for less than 1, and for a rule that ranks tokens.
    """

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = at_least_one(self, steps)
        check_ranking(self, "--halting.min-steps")

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        allowed = view.step >= self.steps
        mass = torch.where(allowed, decision.mass, torch.zeros_like(decision.mass))
        return replace(restricted(decision, lambda leaves: leaves & allowed), mass=mass), memory

    def fixed_depth(self, max_steps: int) -> int | None:
        depth = self.rule.fixed_depth(max_steps)
        return None if depth is None else min(max(depth, self.steps), max_steps)
