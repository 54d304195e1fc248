"""Halting once the answer is thought to be right, one decision a sequence."""

import math

import torch

from halting.costs.correctness import Correctness
from halting.errors import UsageError
from halting.exit_threshold import share_reached
from halting.gate import Gate
from halting.readout import DeepSupervision
from halting.rule import HaltingRule
from halting.sequences import Sequences
from halting.step import Memory, StepDecision, StepView


class CorrectnessHalt(HaltingRule):
    """Leave once the sequence is more likely right than wrong: q_n > 0 (TRM, Jolicoeur-Martineau
    2025, arXiv 2510.04871, section on adaptive computation; the confidence head of LoopUS, Park et
    al. 2026, arXiv 2605.11011, is of this kind).

    q_n = w·s̄_n + b, with s̄_n the mean state of the sequence's tokens after step n; σ(q_n)
    estimates the chance that all of its answers are right. All tokens of a sequence leave together
    with all their mass, at the first n with q_n > 0, in training as in evaluation, or at the step
    limit. There is no q_continue, so no step is computed to look ahead.

    Differs from the source: the gate reads the mean state where TRM reads the first position, which
    it prepends for the puzzle's identity (the same with one token); and it halts in evaluation too,
    where the public code always runs to the limit and saves nothing. TRM's public code also gives
    some sequences a random minimum of steps, as `QHalt` does; its paper does not, nor does this.

    Not causal. Its gate gets gradient from `Correctness` alone, through aux "q_correct". Costs one
    dot product a sequence and step.

    Args:
        dim: D, width of the state.
        bias_init: starting logit; far below 0, so that nobody halts before it has learned to.
        threshold: the chance of being right above which a sequence leaves, in (0, 1); 0.5 is q > 0.

    Raises:
        UsageError: for a threshold outside of (0, 1).
    """

    causal = False
    by_sequence = True
    gives_aux = ("q_correct",)
    exit_threshold = share_reached("threshold")
    default_readout = DeepSupervision
    default_cost = Correctness

    def __init__(self, dim: int, bias_init: float = -5.0, threshold: float = 0.5):
        super().__init__()
        if not 0.0 < threshold < 1.0:
            raise UsageError(
                f"threshold is {threshold}.",
                "It is the chance of being right above which a sequence leaves: none is above 1, "
                "and all are above 0.",
                "Use a probability in (0, 1), such as 0.5.",
            )
        self.threshold = threshold
        self.gate = Gate(dim, bias_init)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logit = Sequences.by_row(view.row).ask(self.gate, view.state).squeeze(-1)
        halt = logit > math.log(self.threshold / (1 - self.threshold))
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining), halt=halt, score=logit, aux={"q_correct": logit}
        )
        return decision, memory
