"""What trains LookaheadDepth: whether one more step lowers a token's loss."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.errors import UsageError
from halting.readout import DeepSupervision
from halting.trace import LoopTrace


class NextStepHelps(PonderCost):
    """Mean over n = 1..N−1 of BCE(z_n, [L_n − L_{n+1} > δ]), in nats, N the token's last step and
    L_n the task's loss of this token at step n (TaH2, arXiv 2609.35748).

    The losses are data: no gradient goes into them, or the model would learn to make its steps look
    useless. The label of the last step is not known, and it is left out; a token of one step, and
    one of which there is no target, costs 0.

    Beside `GateTarget` with ahead=True, which teaches the hazard of `ExitGate` a soft target, the
    label is hard, judges a step that does harm like one that does nothing, and says nothing of how
    much a step helps.

    Works with `LookaheadDepth`, whose gate reads the state without gradient. Gradient reaches z of
    every step but the last.

    Args:
        delta: δ ≥ 0, nats: a step has to lower the loss by more, to count as a help.

    Raises:
        UsageError: for a delta below 0 or one that is no number; when called, for the trace of a
            rule that says no helps_logit.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_outcomes = True
    needs_aux = ("helps_logit",)
    made_for = "LookaheadDepth"
    default_readout = DeepSupervision
    default_penalty = 1.0

    def __init__(self, delta: float = 0.01):
        if not 0.0 <= delta < math.inf:
            raise UsageError(
                f"delta is {delta}.",
                "It is by how many nats a step has to lower the loss: below 0 a step that does "
                "harm would count as a help.",
                "Use 0 or more, such as 0.01; a larger one thinks less.",
            )
        self.delta = delta

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        assert outcomes is not None, "needs_outcomes says so"
        (logit,) = self.aux_of(trace)
        loss = outcomes.loss.detach()
        helps = loss[..., :-1] - loss[..., 1:] > self.delta  # [B L N-1]
        losses = F.binary_cross_entropy_with_logits(
            logit[..., :-1], helps.to(logit.dtype), reduction="none"
        )
        known = trace.ran[..., 1:] & outcomes.has_target.unsqueeze(-1)
        return torch.where(known, losses, 0.0).sum(-1) / known.sum(-1).clamp(min=1)
