"""A decision that is made one step ahead."""

from dataclasses import replace

import torch
from torch import Tensor

from halting.errors import UsageError
from halting.mass import settle
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.wrappers.wrapper import RuleWrapper, check_ranking


class OneAhead(RuleWrapper):
    """The decision after step n + 1 is what the rule inside says of the state after step n ("offset
    one" of continuous depth batching, arXiv 2608.09444): it is known before step n + 1 is computed,
    so a scheduler can fill the next call without waiting for the device.

    With p_n the masses of the rule inside under the limit N − 1, and N its steps there:

        p'_1 = 0,  p'_{n+1} = p_n;  executed steps and Σ n·p'_n are those inside, plus 1.

    At the first step there is no decision yet: nobody leaves and no mass is spent, so a token takes
    at least two steps, or one where the limit is 1. At the limit all leave, as ever. Score and aux
    are handed on a step later, too, as 0 at the first step: costs and ponder read the decision
    where it takes effect, and a rule that is trained in here learns from s_n what to do after step
    n + 1. A rule that was trained without may be wrapped for evaluation: it takes one step more.

    The loop of this package asks for decisions after each step and waits all the same; what this
    wrapper gives is the masses and steps of a scheduler that does not.

    Args:
        rule: the rule inside. A prior over depths keeps its first step, on which no mass can be.
            `MinSteps` and `PerSequence` belong inside.

    Raises:
        UsageError: for a rule that ranks tokens, that multiplies updates by a gain, and one whose
            readout weighs states by what the rule says beside.
    """

    def __init__(self, rule: HaltingRule):
        super().__init__(rule)
        check_ranking(self, "--halting.one-ahead")
        name = type(rule).__name__
        if rule.gives_gain:
            raise UsageError(
                f"OneAhead cannot wrap {name}.",
                "It multiplies a token's next update by a number of its own, which belongs to that "
                "step and no later one, and its depths are chosen by that number.",
                "Drop --halting.one-ahead, or choose a rule without a gain, such as GravesACT.",
            )
        readout = getattr(rule, "default_readout", None)
        weighs = () if readout is None else readout.weighs_by
        if shared := sorted(set(rule.gives_aux) & set(weighs)):
            raise UsageError(
                f"OneAhead cannot wrap {name}.",
                f"Its readout weighs the state of a step by what it says there "
                f"({', '.join(shared)}), which would come a step late.",
                "Drop --halting.one-ahead, or choose a rule whose mass weighs, such as GravesACT.",
            )

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        memory, _ = self.rule.begin(_limited(view))
        return {"rule": memory, "ahead": None}, None

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict)
        ahead = memory["ahead"]
        decision = None if ahead is None else StepDecision(**ahead)
        # What the rule inside has left is what will be left once that decision is carried out.
        remaining = view.remaining
        if decision is not None:
            remaining = settle(decision, remaining, last=False)[1]
        said, own = self.rule.decide(replace(_limited(view), remaining=remaining), memory["rule"])
        kept = {"mass": said.mass, "halt": said.halt, "score": said.score, "aux": said.aux}
        return decision or _none_yet(said), {"rule": own, "ahead": kept}

    def fixed_depth(self, max_steps: int) -> int | None:
        depth = self.rule.fixed_depth(max(max_steps - 1, 1))
        return None if depth is None else min(depth + 1, max_steps)


def _limited(view: StepView) -> StepView:
    """The view of the rule inside, whose last decision is that of the step before the limit."""
    return replace(view, max_steps=max(view.max_steps - 1, 1))


def _none_yet(said: StepDecision) -> StepDecision:
    """Nobody leaves, nothing is spent, nothing is said."""
    return StepDecision(
        mass=torch.zeros_like(said.mass),
        halt=torch.zeros_like(said.halt),
        score=torch.zeros_like(said.score),
        aux={name: torch.zeros_like(value) for name, value in said.aux.items()},
    )
