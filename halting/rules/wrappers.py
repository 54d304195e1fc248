"""Wrappers: a rule inside another that restricts when it may halt, or makes a sequence halt as one."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from halting.errors import UsageError
from halting.rule import HaltingRule, Memory, StepDecision, StepView, alone, keep_rows
from halting.sequences import Sequences
from halting.trace import LoopTrace


class RuleWrapper(HaltingRule):
    """A rule around another: flags, defaults and ponder are the inner rule's.

    Args:
        rule: the rule inside.
    """

    def __init__(self, rule: HaltingRule):
        super().__init__()
        self.rule = rule
        self.causal, self.spreads_mass, self.reads_logits = rule.causal, rule.spreads_mass, rule.reads_logits  # pyright: ignore[reportAttributeAccessIssue]
        self.default_readout, self.default_cost = rule.default_readout, rule.default_cost  # pyright: ignore[reportAttributeAccessIssue]

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return self.rule.begin(view)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        return self.rule.decide(view, memory)

    def end_update(self, over_ranks: Callable[[Tensor], Tensor] = alone) -> None:
        self.rule.end_update(over_ranks)

    def ponder(self, trace: LoopTrace) -> Tensor:
        return self.rule.ponder(trace)


def _at_least_one(wrapper: RuleWrapper, steps: int) -> int:
    if steps < 1:
        raise UsageError(
            f"{type(wrapper).__name__} cannot wrap {type(wrapper.rule).__name__} with steps={steps}.",
            "Steps count from 1, and a token must take one to have a state to read.",
            "Use 1 or more.",
        )
    return steps


class MinSteps(RuleWrapper):
    """Nobody leaves, and no mass is spent, before step `steps`; from then on the inner rule decides.

    Args:
        rule: the rule inside.
        steps: the first step at which a token may leave, ≥ 1.

    Raises:
        UsageError: for less than 1.
    """

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = _at_least_one(self, steps)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        allowed = view.step >= self.steps
        mass = torch.where(allowed, decision.mass, torch.zeros_like(decision.mass))
        return replace(decision, mass=mass, halt=decision.halt & allowed), memory


class MaxSteps(RuleWrapper):
    """Everyone has left by step `steps`, which takes the remaining mass.

    Args:
        rule: the rule inside.
        steps: the last step, ≥ 1.

    Raises:
        UsageError: for less than 1.
    """

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = _at_least_one(self, steps)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        return replace(decision, halt=decision.halt | (view.step >= self.steps)), memory


class PerSequence(RuleWrapper):
    """A sequence halts as one: its tokens leave together.

    A rule that spreads its mass sees one token a sequence, the mean of its tokens' states, and all tokens follow its
    decision. A hard exit decides token by token, and the sequence leaves at the step at which all of its tokens would.
    Not causal: a token's exit depends on later tokens.

    Args:
        rule: the rule inside; not one that picks tokens of a sequence against each other (routers).
    """

    def __init__(self, rule: HaltingRule):
        super().__init__(rule)
        self.causal = False  # pyright: ignore[reportAttributeAccessIssue]
        if rule.reads_logits and rule.spreads_mass:
            raise UsageError(
                f"PerSequence cannot wrap {type(rule).__name__}.",
                "It reads logits and spreads its mass, and a sequence has no single logit vector to read.",
                "Drop --halting.per-sequence, or choose a rule that reads states, such as GravesACT.",
            )

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        if not self.spreads_mass:
            return self.rule.begin(view)
        sequences = Sequences.by_row(view.row)
        memory, gain = self.rule.begin(_by_sequence(view, sequences))
        return keep_rows(memory, sequences.of), None if gain is None else gain[sequences.of]

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        sequences = Sequences.by_row(view.row)
        if not self.spreads_mass:
            decision, memory = self.rule.decide(view, memory)
            return replace(decision, halt=sequences.all_set(decision.halt)), memory
        of = sequences.of
        decision, memory = self.rule.decide(_by_sequence(view, sequences), keep_rows(memory, sequences.first))
        spread = StepDecision(
            mass=decision.mass[of],
            halt=decision.halt[of],
            score=decision.score[of],
            gain=None if decision.gain is None else decision.gain[of],
            aux={name: value[of] for name, value in decision.aux.items()},
        )
        return spread, keep_rows(memory, of)


def _by_sequence(view: StepView, sequences: Sequences) -> StepView:
    """The view of one mean token a sequence."""
    first = sequences.first
    return replace(
        view,
        step=view.step[first],
        entering=sequences.mean(view.entering),
        state=sequences.mean(view.state),
        remaining=view.remaining[first],
        row=sequences.rows,
        position=torch.zeros_like(sequences.rows),
        uniform=lambda: view.uniform()[first],
    )


def _trained_mass(wrapper: RuleWrapper, decision: StepDecision, view: StepView) -> Tensor:
    """[A]: what a rule spends that no longer says who leaves: all that is left where it would have let a token go. A
    rule that puts all mass on the step it leaves has nothing to spend before the token really does."""
    if not wrapper.spreads_mass:
        return torch.zeros_like(view.remaining)
    return torch.where(decision.halt, view.remaining, decision.mass.to(view.remaining.dtype))


class StopAt(RuleWrapper):
    """Everyone leaves exactly at step `steps`, which takes the mass that is left: *had it stopped at step n*, for any
    rule.

    Mass is spent as the inner rule spends it, all that is left where it would have let the token go (a hard exit, which
    is overruled, spends none before `steps`); but the token is computed on until `steps`. With the rule's own readout
    this is what the model would have said; the state alone is another question (`FixedSteps` with `FinalState`).

    Args:
        rule: the rule inside.
        steps: n ≥ 1.

    Raises:
        UsageError: for less than 1.
    """

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = _at_least_one(self, steps)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        return replace(decision, mass=_trained_mass(self, decision, view), halt=view.step >= self.steps), memory

    def ponder(self, trace: LoopTrace) -> Tensor:
        return HaltingRule.ponder(self, trace)


class ExitBy(RuleWrapper):
    """A hard exit decides who leaves, on a model that was trained under another rule: a post-hoc exit.

    Mass is spent as the inner rule spends it, all that is left where it would have let the token go (a hard exit, which
    is overruled, spends none); the token itself is computed until `leaving` says so, and that step takes the rest. With
    the rule's own readout, the output is what the model would have said *had it stopped* at that step. The ponder is
    the executed steps, and the score is the exit's.

    Args:
        rule: the rule that the model was trained with.
        leaving: the hard exit that decides.

    Raises:
        UsageError: for an exit that spreads mass: it would decide by mass that it has not spent.
    """

    def __init__(self, rule: HaltingRule, leaving: HaltingRule):
        super().__init__(rule)
        if leaving.spreads_mass:
            raise UsageError(
                f"{type(leaving).__name__} cannot be the exit of a model trained with {type(rule).__name__}.",
                "It decides by the mass that it has spent itself, and here the trained rule spends the mass.",
                "Use a hard exit, such as ConvergenceExit or ConfidenceExit.",
            )
        self.leaving = leaving
        self.causal = rule.causal and leaving.causal  # pyright: ignore[reportAttributeAccessIssue]
        self.reads_logits = rule.reads_logits or leaving.reads_logits  # pyright: ignore[reportAttributeAccessIssue]

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        memory, gain = self.rule.begin(view)
        return {"rule": memory, "leaving": self.leaving.begin(view)[0]}, gain

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict)
        decision, own = self.rule.decide(view, memory["rule"])
        seen = replace(view, logits=lambda: view.logits(decision.aux)) if decision.aux else view
        left, others = self.leaving.decide(seen, memory["leaving"])
        mass = _trained_mass(self, decision, view)
        return replace(decision, mass=mass, halt=left.halt, score=left.score), {"rule": own, "leaving": others}

    def ponder(self, trace: LoopTrace) -> Tensor:
        return HaltingRule.ponder(self, trace)
