"""What keeps a token-choice router from sending all tokens to one depth."""

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.trace import LoopTrace


class LoadBalance(PonderCost):
    """N·Σ_i f_i·P_i over the depths i, plus a z-loss (Mixture-of-Recursions, Bae et al. 2025,
    token-choice routing; the balancing loss is Switch Transformer's, Fedus et al. 2021, equation
    4).

    P_i is the mean score of depth i over the batch's tokens and f_i the fraction of them sent
    there, which has no
    gradient. Told per token, so that the mean over the batch's tokens is the published value:

        c = weight·N·Σ_i f_i·g_i + z_weight·logsumexp(z)²

    with g the token's own scores and z its logits. It is least, `weight`·alpha, where the load is
    even.

    f is counted over the tokens of the call: over one rank's micro-batch. With several
    micro-batches or ranks the loss is their mean weighted by tokens, and asks each of them to be
    balanced by itself, as the public code does. That is not the cost of the whole batch: it depends
    on how the batch is cut.

    The published weights are inside, hence a penalty of 1. In nats, though it is a number without a
    unit. It does not make thinking cheaper: an even load takes (N + 1) / 2 steps a token.

    Args:
        weight: of the balance.
        z_weight: of the z-loss; 0 for none.

    Raises:
        UsageError: when called, for the trace of a rule that does not say depth, depth_scores and
            depth_log_sum.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_aux = ("depth", "depth_scores", "depth_log_sum")
    made_for = "TokenChoiceRouter"
    default_penalty = 1.0

    def __init__(self, weight: float = 0.1, z_weight: float = 0.001):
        self.weight = weight
        self.z_weight = z_weight

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        # The choice is made once; every step repeats it, and every token takes the first.
        depth, scores, log_sum = (said[:, :, 0] for said in self.aux_of(trace))
        num_depths = scores.shape[-1]
        sent = F.one_hot((depth - 1).clamp(min=0), num_depths) * trace.valid.unsqueeze(-1)
        fraction = sent.sum((0, 1)).to(scores.dtype) / trace.valid.sum().clamp(min=1)
        balance = num_depths * (scores * fraction).sum(-1)
        return torch.where(
            trace.valid, self.weight * balance + self.z_weight * log_sum.square(), 0.0
        )
