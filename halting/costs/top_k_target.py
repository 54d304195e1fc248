"""What trains an expert-choice router's scores towards its own choices."""

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.trace import LoopTrace


class TopKTarget(PonderCost):
    """Binary cross entropy of each router logit to the top-k mask that it led to, plus a z-loss
    (Mixture-of-Recursions, Bae et al. 2025, expert-choice routing with auxiliary loss; z-loss of
    ST-MoE, Zoph et al. 2022).

    With z the logit of a token that was asked whether it takes another step, and y = +1 where it
    was among the top k of
    its sequence, −1 where it was not:

        c = Σ_n (T / C_n)·[ weight·ln(1 + exp(−y_n·z_n)) + z_weight·z_n² ]

    T counts the sequence's tokens and C_n those that were asked after step n. So the mean of c over
    the tokens of a sequence is Σ_n of the mean over those that were asked at n, as published, and a
    sequence's cost does not depend on the others in its batch, on micro-batches or on ranks.

    The published weights are inside, hence a penalty of 1. The z-loss is logsumexp², which for a
    single logit is z². Public code divides the z-loss a second time, by the mean number of tokens a
    position; not here. The mask is a target without gradient; the gradient reaches the router and,
    through z, the states. In nats. It buys no compute: the fraction that stays is fixed by the
    rule.

    Args:
        weight: of the cross entropy.
        z_weight: of the z-loss; 0 for none.

    Raises:
        UsageError: when called, for the trace of a rule that says no choice_logit and choice.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_aux = ("choice_logit", "choice")
    made_for = "ExpertChoiceRouter"
    default_penalty = 1.0

    def __init__(self, weight: float = 0.001, z_weight: float = 0.001):
        self.weight = weight
        self.z_weight = z_weight

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        logit, choice = self.aux_of(trace)
        choice = choice.to(trace.mass.dtype)
        asked = choice != 0
        tokens = trace.valid.sum(1).view(-1, 1, 1)
        share = tokens / asked.sum(1, keepdim=True).clamp(min=1).to(logit.dtype)
        terms = self.weight * F.softplus(-choice * logit) + self.z_weight * logit.square()
        return torch.where(asked, share * terms, 0.0).sum(-1)
