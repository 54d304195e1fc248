"""What trains DistilledExit: whether its teacher has left."""

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.trace import LoopTrace


class TeacherExit(PonderCost):
    """Mean over n = 1..N−1 of BCE(z_n, [the teacher has left by step n]), in nats, N the token's
    last step.

    A teacher that has left stays away: a student that missed the teacher's exit is taught to leave
    at the next step. The last step, at which all leave whatever the gate says, is left out; a token
    of one step costs 0. No target of the task is asked for, so every token is taught.

    Works with `DistilledExit`, in training: in evaluation its teacher is not asked. Gradient
    reaches z of every step but the last.

    Raises:
        UsageError: when called, for the trace of a rule that says no leave_logit and teacher_left.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_aux = ("leave_logit", "teacher_left")
    made_for = "DistilledExit"
    default_penalty = 1.0

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        logit, left = self.aux_of(trace)
        losses = F.binary_cross_entropy_with_logits(logit, left.to(logit.dtype), reduction="none")
        numbers = torch.arange(1, trace.num_steps + 1, device=logit.device)
        judged = numbers < trace.steps.unsqueeze(-1)  # [B L N]
        return torch.where(judged, losses, 0.0).sum(-1) / judged.sum(-1).clamp(min=1)
