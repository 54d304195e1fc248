"""What trains an early-exit classifier: whether the answer is already the final one."""

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.readout import DeepSupervision
from halting.trace import LoopTrace


class SameAnswer(PonderCost):
    """Mean over n = 1..N−1 of BCE(z_n, [answer at step n = answer at step N]), in nats, N the
    token's last step (CALM: Schuster et al. 2022, arXiv 2207.07061, section 3, the independent
    objective of the early-exit classifier).

    The label asks for no target: agreement with full depth, right or wrong. So every token is
    taught, also where there is no target. The last step, which always agrees, is left out; a token
    of one step costs 0.

    Works with `EarlyExitClassifier`, whose gate reads the state without gradient. Gradient reaches
    z of every step but the last.

    Raises:
        UsageError: when called, for the trace of a rule that says no same_logit.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_outcomes = True
    needs_aux = ("same_logit",)
    made_for = "EarlyExitClassifier"
    default_readout = DeepSupervision
    default_penalty = 1.0

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        assert outcomes is not None, "needs_outcomes says so"
        (logit,) = self.aux_of(trace)
        answers = outcomes.prediction
        if trace.num_steps == 0:
            return logit.sum(-1)
        final = answers.gather(-1, (trace.steps - 1).clamp(min=0).unsqueeze(-1))
        losses = F.binary_cross_entropy_with_logits(
            logit, (answers == final).to(logit.dtype), reduction="none"
        )
        judged = torch.arange(1, trace.num_steps + 1, device=logit.device) < trace.steps.unsqueeze(
            -1
        )
        return torch.where(judged, losses, 0.0).sum(-1) / judged.sum(-1).clamp(min=1)
