"""How the loop asks its halting rule, and that it looks at the answers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from act.loop.rule_checks import (
    check_begun,
    check_decided,
    check_finite,
    check_width,
    saying_who,
)
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView


class RuleCalls:
    """Calls of one rule. The first in training and in evaluation is looked at closely; then that of
    any first step but for its numbers, which a device would be waited for; of later steps the
    shapes.

    Attributes:
        seen: the modes (`rule.training`) in which a decision was looked at closely.
    """

    def __init__(self) -> None:
        self.seen: set[bool] = set()

    def begin(self, rule: HaltingRule, view: StepView) -> tuple[Memory, Tensor | None]:
        """What the rule says before the first step.

        Raises:
            UsageError: for a rule that fails, or returns something else.
        """
        if rule.training in self.seen:
            return _outside_autocast(rule.begin, view)
        check_width(rule, view.state.shape[-1])
        with saying_who(rule, view):
            begun = _outside_autocast(rule.begin, view)
        return check_begun(rule, begun, len(view.state))

    def decide(
        self, rule: HaltingRule, view: StepView, memory: Memory, number: int
    ) -> tuple[StepDecision, Memory]:
        """What the rule decides after step `number`, counted from 1.

        Raises:
            UsageError: as `begin`.
        """
        if rule.training in self.seen:
            decided = _outside_autocast(rule.decide, view, memory)
            fits = number > 1 and _has_rows(decided, view)
            return decided if fits else check_decided(rule, decided, view)
        with saying_who(rule, view):
            decided = _outside_autocast(rule.decide, view, memory)
        decision, memory = check_decided(rule, decided, view)
        check_finite(rule, decision, view)
        self.seen.add(rule.training)
        return decision, memory


def _has_rows(decided: Any, view: StepView) -> bool:
    if type(decided) is not tuple or len(decided) != 2 or type(decided[0]) is not StepDecision:
        return False
    rows = view.remaining.shape
    return decided[0].mass.shape == rows and decided[0].halt.shape == rows


def _outside_autocast(method: Callable[..., Any], view: StepView, *memory: Memory) -> Any:
    """A rule's method, called with autocast off: halting arithmetic is float32 or wider (law 5)."""
    with torch.autocast(view.state.device.type, enabled=False):
        return method(view, *memory)
