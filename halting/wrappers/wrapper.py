"""A rule around another."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from halting.counts import is_count
from halting.errors import UsageError
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView, alone
from halting.trace import LoopTrace

_FLAGS = (
    "causal",
    "spreads_mass",
    "gives_gain",
    "gain_reads_state",
    "reads_logits",
    "by_sequence",
    "ranks_tokens",
    "gives_aux",
    "default_readout",
    "default_cost",
)


class RuleWrapper(HaltingRule):
    """A rule around another: flags, defaults, fixed depth and ponder are the inner rule's.

    Args:
        rule: the rule inside.
    """

    def __init__(self, rule: HaltingRule):
        super().__init__()
        self.rule = rule
        for flag in _FLAGS:
            if hasattr(rule, flag):
                setattr(self, flag, getattr(rule, flag))

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return self.rule.begin(view)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        return self.rule.decide(view, memory)

    def end_update(self, over_ranks: Callable[[Tensor], Tensor] = alone) -> None:
        self.rule.end_update(over_ranks)

    def fixed_depth(self, max_steps: int) -> int | None:
        return self.rule.fixed_depth(max_steps)

    def ponder(self, trace: LoopTrace) -> Tensor:
        return self.rule.ponder(trace)

    def exit_step(self, trace: LoopTrace) -> Tensor:
        return self.rule.exit_step(trace)


def restricted(decision: StepDecision, restrict: Callable[[Tensor], Tensor]) -> StepDecision:
    """The decision with fewer who leave, now and, where the rule says so, in evaluation."""
    aux = decision.aux
    if "would_leave" in aux:
        aux = aux | {"would_leave": restrict(aux["would_leave"])}
    return replace(decision, halt=restrict(decision.halt), aux=aux)


def check_ranking(wrapper: RuleWrapper, flag: str) -> None:
    if wrapper.ranks_tokens:
        raise UsageError(
            f"{type(wrapper).__name__} cannot wrap {type(wrapper.rule).__name__}.",
            "It ranks the tokens of a sequence against each other and lets the last of them go. A "
            "token that is held back would be computed and ranked on, in the place of another.",
            f"Drop {flag}, or choose a rule that decides for each token alone, such as GravesACT.",
        )


def at_least_one(wrapper: RuleWrapper, steps: int) -> int:
    if not is_count(steps):
        raise UsageError(
            f"{type(wrapper).__name__} cannot wrap {type(wrapper.rule).__name__} with "
            f"steps={steps!r}.",
            "Steps count from 1, and a token must take one to have a state to read.",
            "Use a whole number, 1 or more.",
        )
    return steps


def trained_mass(wrapper: RuleWrapper, decision: StepDecision, view: StepView) -> Tensor:
    """[A]: what a rule spends that no longer says who leaves: all that is left where it would have
    let a token go. A rule that puts all mass on the step it leaves has nothing to spend before the
    token really does."""
    if not wrapper.spreads_mass:
        return torch.zeros_like(view.remaining)
    return torch.where(decision.halt, view.remaining, decision.mass.to(view.remaining.dtype))
