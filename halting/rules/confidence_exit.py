"""Exits by confidence: leave once the prediction is sure enough."""

import math
from typing import Literal, get_args

import torch

from halting.decaying_threshold import check_decay, decaying_threshold
from halting.errors import UsageError
from halting.exit_threshold import ExitThreshold, share_reached
from halting.mass import halting_dtype
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView

Measure = Literal["max", "gap", "entropy"]
_DEFAULTS: dict[Measure, float] = {"max": 0.9, "gap": 0.8, "entropy": 0.33}


class ConfidenceExit(HaltingRule):
    """Leave once the prediction is sure enough (CALM: Schuster et al. 2022, arXiv 2207.07061,
    section 3).

    With P_n the prediction had the token stopped at step n, the score of step n and when it leaves
    at threshold c:

        max      max P_n ≥ c
        gap      largest − second largest of P_n ≥ c, CALM's softmax response
        entropy  H(P_n) ≤ c, nats (as in BranchyNet, Teerapittayanon et al. 2016)

    With `decay` the threshold is stricter for early tokens, whose mistakes the later ones inherit
    (`decaying_threshold`).

    Differs from the paper: c is given (`ponder calibrate` finds one), and t is the position in the
    sequence, prompt included. Of CALM's other measures, the small trained classifier is
    `EarlyExitClassifier`, and hidden-state saturation `ConvergenceExit("cosine")`. No threshold is
    published; the defaults are what a maximum of 0.9 is for two answers.

    Causal. Has no gate and no cost, and no gradient passes through it. Reads logits, so it costs
    the output head for each active token and step.

    Args:
        measure: what counts as sure.
        threshold: c, in (0, 1] for `max` and `gap`, above 0 for `entropy`; None for 0.9, 0.8 and
            0.33.
        decay: τ ≥ 0, the paper uses 4; None for the same threshold everywhere. Not for `entropy`.
        decay_length: L, the longest sequence; wanted with `decay`.

    Raises:
        UsageError: for an unknown measure, a threshold or decay out of range, and `decay` without
            `decay_length`.
    """

    reads_logits = True
    default_readout = FinalState

    def __init__(
        self,
        measure: Measure = "max",
        threshold: float | None = None,
        decay: float | None = None,
        decay_length: int | None = None,
    ):
        super().__init__()
        if measure not in _DEFAULTS:
            raise UsageError(
                f"ConfidenceExit has no measure {measure}.",
                f"Its measures are {', '.join(get_args(Measure))}.",
                "Write one of them.",
            )
        chosen = _DEFAULTS[measure] if threshold is None else threshold
        if not 0 < chosen <= (math.inf if measure == "entropy" else 1.0) or chosen == math.inf:
            raise UsageError(
                f"ConfidenceExit cannot leave at {measure} {chosen}.",
                "An entropy is in nats and at least 0."
                if measure == "entropy"
                else "Probabilities lie in [0, 1].",
                f"Use a number {'above 0' if measure == 'entropy' else 'in (0, 1]'}, such as "
                f"{_DEFAULTS[measure]:g}.",
            )
        if decay is not None and measure == "entropy":
            raise UsageError(
                f"ConfidenceExit cannot let an entropy threshold decay (decay={decay}).",
                "A token leaves below it, so the larger threshold of early tokens would be the "
                "laxer one.",
                "Use the measure max or gap, or drop decay.",
            )
        check_decay(decay, decay_length)
        self.exit_threshold = (
            ExitThreshold("threshold", 1e-7, 30.0)
            if measure == "entropy"
            else share_reached("threshold")
        )
        self.measure = measure
        self.threshold = chosen
        self.decay = decay
        self.decay_length = decay_length

    @torch.no_grad()
    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logits = view.logits()
        chances = logits.to(halting_dtype(logits.dtype)).softmax(-1)
        if self.measure == "entropy":
            score = torch.special.entr(chances).sum(-1)
            sure = score <= self.threshold
        else:
            top = chances.topk(2, dim=-1).values
            score = top[:, 0] if self.measure == "max" else top[:, 0] - top[:, 1]
            sure = score >= decaying_threshold(
                self.threshold, self.decay, self.decay_length, view.position, score.dtype
            )
        return StepDecision(mass=torch.zeros_like(view.remaining), halt=sure, score=score), None
