"""Exits by convergence: leave once a step has hardly changed anything."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.errors import UsageError
from halting.exit_threshold import ExitThreshold
from halting.mass import halting_dtype
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView

Criterion = Literal["state", "entropy", "kl", "argmax", "cosine"]
_PUBLISHED: dict[Criterion, float] = {
    "state": 0.03,
    "entropy": 1e-3,
    "kl": 5e-4,
    "argmax": 5,
    "cosine": 1e-3,
}
_THRESHOLDS: dict[Criterion, ExitThreshold] = {
    "state": ExitThreshold("threshold", 1e-6, 10.0),
    "entropy": ExitThreshold("threshold", 1e-7, 10.0),
    "kl": ExitThreshold("threshold", 1e-9, 30.0),
    "argmax": ExitThreshold("threshold", 32, 1, "count"),
    "cosine": ExitThreshold("threshold", 1e-9, 2.5),
}


class ConvergenceExit(HaltingRule):
    """Leave once a step has hardly changed the state or the prediction (Huginn: Geiping et al.
    2025, arXiv 2502.05171, section 6.1 and its public model code).

    With P_n the prediction had the token stopped at step n, the score of step n and when it leaves
    at threshold t:

        state    ‖s_n − s_{n−1}‖ / ‖s_n‖ < t            0.03
        cosine   1 − cos(s_n, s_{n−1}) < t              1e-3
        entropy  |H(P_n) − H(P_{n−1})| < t, nats        1e-3
        kl       KL(P_{n−1} ‖ P_n) < t, nats            5e-4
        argmax   how often in a row argmax P_n = argmax P_{n−1}, ≥ t    5

    Differs from the public code: each token decides for itself (there, a sequence by its last
    token, `state` by the mean over its tokens); and nobody leaves at step 1, which has no step
    before it. The score of step 1 is against the state that the loop starts from, or against a
    uniform prediction, which the public code also compares with.

    Causal. Has no gate and no cost, and no gradient passes through it. `state` and `cosine`
    remember a state [A D] and cost two dot products a token and step; the others read logits, so
    they cost the output head for each active token and step, and `kl` remembers [A V].

    Args:
        criterion: what has to settle.
        threshold: t > 0, for `argmax` a whole number; None for the published one.

    Raises:
        UsageError: for an unknown criterion and a threshold that it cannot have.
    """

    default_readout = FinalState

    def __init__(self, criterion: Criterion = "state", threshold: float | None = None):
        super().__init__()
        if criterion not in _PUBLISHED:
            raise UsageError(
                f"ConvergenceExit has no criterion {criterion}.",
                f"Its criteria are {', '.join(get_args(Criterion))}.",
                "Write one of them.",
            )
        chosen = _PUBLISHED[criterion] if threshold is None else threshold
        if not 0 < chosen < math.inf or (criterion == "argmax" and chosen != int(chosen)):
            raise UsageError(
                f"ConvergenceExit cannot leave at {criterion} {chosen}.",
                "It counts steps at which the prediction stayed the same."
                if criterion == "argmax"
                else (
                    "No change is smaller than 0, and the threshold is the change below which a "
                    "token leaves."
                ),
                "Use "
                f"{'a whole number from 1 on' if criterion == 'argmax' else 'a number above 0'}, "
                f"such as the published {_PUBLISHED[criterion]:g}.",
            )
        self.criterion = criterion
        self.threshold = chosen
        self.exit_threshold = _THRESHOLDS[criterion]
        self.reads_logits = criterion in ("entropy", "kl", "argmax")

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return (None if self.reads_logits else _wide(view.state)), None

    @torch.no_grad()
    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        score, memory = self._change(view, memory)
        settled = score >= self.threshold if self.criterion == "argmax" else score < self.threshold
        none_yet = torch.zeros_like(view.remaining)
        return StepDecision(mass=none_yet, halt=settled & (view.step > 1), score=score), memory

    def _change(self, view: StepView, memory: Memory) -> tuple[Tensor, Memory]:
        """The score [A] of this step, and what the next one is compared with."""
        if not self.reads_logits:
            state = _wide(view.state)
            assert isinstance(memory, Tensor)
            if self.criterion == "cosine":
                return 1 - F.cosine_similarity(state, memory, dim=-1).clamp(max=1.0), state
            size = state.norm(dim=-1).clamp(min=torch.finfo(state.dtype).tiny)
            return (state - memory).norm(dim=-1) / size, state
        log_p = _wide(view.logits()).log_softmax(-1)
        uniform = -math.log(log_p.shape[-1])
        if self.criterion == "entropy":
            entropy = torch.special.entr(log_p.exp()).sum(-1)
            before = torch.full_like(entropy, -uniform) if memory is None else memory
            assert isinstance(before, Tensor)
            return (entropy - before).abs(), entropy
        if self.criterion == "kl":
            before = torch.full_like(log_p, uniform) if memory is None else memory
            assert isinstance(before, Tensor)
            terms = before.exp() * (before - log_p)
            return torch.where(before == -math.inf, 0.0, terms).sum(-1), log_p  # 0·log 0 = 0
        answer = log_p.argmax(-1)
        if memory is None:
            memory = (torch.full_like(answer, -1), torch.zeros_like(answer))
        assert isinstance(memory, tuple)
        last, repeats = memory
        assert isinstance(last, Tensor) and isinstance(repeats, Tensor)
        repeats = torch.where(answer == last, repeats + 1, 0)
        return repeats.to(log_p.dtype), (answer, repeats)


def _wide(values: Tensor) -> Tensor:
    return values.detach().to(halting_dtype(values.dtype))
