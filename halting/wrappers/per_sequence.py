"""A sequence that halts as one."""

from dataclasses import replace

import torch
from torch import Tensor

from halting.errors import UsageError
from halting.rule import HaltingRule
from halting.sequences import Sequences
from halting.step import Memory, StepDecision, StepView, keep_rows
from halting.wrappers.wrapper import RuleWrapper, check_ranking, restricted


class PerSequence(RuleWrapper):
    """A sequence halts as one: its tokens leave together.

    A rule that spreads its mass sees one token a sequence, the mean of its tokens' states, and all
    tokens follow its decision. A hard exit decides token by token, and the sequence leaves at the
    step at which all of its tokens would. Not causal: a token's exit depends on later tokens.

    Args:
        rule: the rule inside; not one that ranks tokens, such as `ExpertChoiceRouter`.

    Raises:
        UsageError: for a rule that ranks tokens, and for one that reads logits and spreads its
            mass.
    """

    def __init__(self, rule: HaltingRule):
        super().__init__(rule)
        self.causal = False
        self.by_sequence = True
        check_ranking(self, "--halting.per-sequence")
        if rule.reads_logits and rule.spreads_mass:
            raise UsageError(
                f"PerSequence cannot wrap {type(rule).__name__}.",
                "It reads logits and spreads its mass, and a sequence has no single logit vector "
                "to read.",
                "Drop --halting.per-sequence, or choose a rule that reads states, such as "
                "GravesACT.",
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
            return restricted(decision, sequences.all_set), memory
        of = sequences.of
        decision, memory = self.rule.decide(
            _by_sequence(view, sequences), keep_rows(memory, sequences.first)
        )
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
