"""CALM's early-exit classifier: a small gate that learns when the answer will no longer change."""

import torch
from torch import Tensor

from halting.costs.same_answer import SameAnswer
from halting.decaying_threshold import check_decay, decaying_threshold
from halting.errors import UsageError
from halting.exit_threshold import share_reached
from halting.gate import Gate
from halting.mass import halting_dtype
from halting.readout import DeepSupervision
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace
from halting.would_leave import would_leave_step


class EarlyExitClassifier(HaltingRule):
    """z_n = w·s_n + b, σ(z_n) the chance that the answer at step n is already that of full depth;
    in training everybody runs to the limit, in evaluation a token leaves at the first n with σ(z_n)
    ≥ c (CALM: Schuster et al. 2022, arXiv 2207.07061, section 3, the early-exit classifier; its
    other confidence measures are `ConfidenceExit`).

    Trained by `SameAnswer`, which needs no targets. The gate reads the state without gradient, so
    the classifier never moves the model, as in the paper, which trains it on a frozen one
    (`--start-from RUN --train-only rule` does that here). Trained together with a model, the
    readout `DeepSupervision` teaches every step to answer.

    Differs from the paper: c is given (`ponder calibrate` finds one); and deep supervision weighs
    all steps alike, where the paper weighs a layer by its number.

    Causal. The gate gets gradient from `SameAnswer` alone, through aux "same_logit". Costs one dot
    product a token and step; training costs N steps and N calls of the output head for every token.

    Args:
        dim: D, width of the state.
        bias_init: starting logit; at 0 (a chance of ½) and the default threshold nobody leaves
            before it has learned.
        threshold: c, the chance at which a token leaves in evaluation, in (0, 1].
        decay: τ ≥ 0, the paper uses 4: stricter for early positions (`decaying_threshold`); None
            for c everywhere.
        decay_length: L, positions of the longest sequence; wanted with `decay`.

    Raises:
        UsageError: for a threshold that is no chance, and for a decay that cannot be.
    """

    gives_aux = ("same_logit", "would_leave")
    exit_threshold = share_reached("threshold")
    default_readout = DeepSupervision
    default_cost = SameAnswer

    def __init__(
        self,
        dim: int,
        bias_init: float = 0.0,
        threshold: float = 0.9,
        decay: float | None = None,
        decay_length: int | None = None,
    ):
        super().__init__()
        if not 0.0 < threshold <= 1.0:
            raise UsageError(
                f"threshold is {threshold}.",
                "It is the chance of an answer that stays at which a token leaves: at 0 all would "
                "leave after the first step, and none is above 1.",
                "Use one in (0, 1], such as 0.9.",
            )
        check_decay(decay, decay_length)
        self.threshold = threshold
        self.decay = decay
        self.decay_length = decay_length
        self.gate = Gate(dim, bias_init)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        wide = view.state.detach().to(halting_dtype(view.state.dtype))
        logit = self.gate(wide).squeeze(-1)
        chance = torch.sigmoid(logit)
        sure: Tensor = chance >= decaying_threshold(
            self.threshold, self.decay, self.decay_length, view.position, chance.dtype
        )
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=torch.zeros_like(sure) if self.training else sure,
            score=chance,
            aux={"same_logit": logit, "would_leave": sure},
        )
        return decision, memory

    def fixed_depth(self, max_steps: int) -> int | None:
        return max_steps if self.training else None

    def ponder(self, trace: LoopTrace) -> Tensor:
        """The first n with σ(z_n) ≥ c: in evaluation where the token left, in training where it
        would have."""
        return would_leave_step(trace) if self.training else super().ponder(trace)
