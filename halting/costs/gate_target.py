"""The gate loss of Ouro's second stage: go on where the last step helped."""

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.errors import UsageError
from halting.readout import DeepSupervision
from halting.trace import LoopTrace


class GateTarget(PonderCost):
    """Mean over n = 2..N of the binary cross entropy between the gate's chance to go on, 1 − λ_n,
    and w_n = σ(k·(max(0, L_{n−1} − L_n) − γ)), in nats (Ouro / LoopLM, Zhu et al. 2025, arXiv
    2510.25741, stage 2, focused gate training; k = 50, γ = 0.005).

    L_n, the task's loss at step n, is data here: it gets no gradient, whatever is frozen. The paper
    trains the gate alone, with the model frozen and no other loss; hence the readout
    `DeepSupervision`, under which the task's loss does not reach the gate through the mass. The
    cost goes through `aux["exit_logit"]`, not through the mass, and is computed from logits, so a
    saturated gate still learns.

    w_n judges the step that was just taken, so nothing teaches λ_1, and λ_N is taught though it has
    no say. `ahead=True` (not in the paper) shows the same w_n to λ_{n−1}, the gate that chose to
    take step n: then λ_1 .. λ_{N−1} are taught whether the next step pays.

    Tokens of which there is no target have no loss, hence no target, and cost 0.

    Args:
        sharpness: k, above 0; 1/nats.
        threshold: γ, nats: an improvement below it is not worth a step.
        ahead: teach the gate before the step that is judged instead of the one after it.

    Raises:
        UsageError: for a sharpness of 0 or below; when called on the trace of a rule without
            "exit_logit".
    """

    unit = "nats"
    needs_spread_mass = False
    needs_outcomes = True
    needs_aux = ("exit_logit",)
    made_for = "ExitGate"
    default_readout = DeepSupervision
    default_penalty = 1.0

    def __init__(self, sharpness: float = 50.0, threshold: float = 0.005, ahead: bool = False):
        if sharpness <= 0:
            raise UsageError(
                f"sharpness is {sharpness}.",
                "It multiplies the improvement of the loss: at 0 every step is worth the same, and "
                "below 0 the gate would go on where it does not help.",
                "Use a number above 0, such as 50.",
            )
        self.sharpness = sharpness
        self.threshold = threshold
        self.ahead = ahead

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        assert outcomes is not None
        (logit,) = self.aux_of(trace)
        taught = logit[..., :-1] if self.ahead else logit[..., 1:]
        loss = outcomes.loss.detach().to(logit.dtype)
        improvement = (loss[..., :-1] - loss[..., 1:]).clamp(min=0)
        go_on = torch.sigmoid(self.sharpness * (improvement - self.threshold))
        losses = F.binary_cross_entropy_with_logits(-taught, go_on, reduction="none")
        judged = trace.ran[..., 1:] & outcomes.has_target.unsqueeze(-1)
        return torch.where(judged, losses, 0.0).sum(-1) / judged.sum(-1).clamp(min=1)
