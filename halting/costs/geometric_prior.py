"""The regulariser of PonderNet: how far the exit distribution is from a geometric one."""

import math

import torch
from torch import Tensor

from halting.costs.cost import PonderCost, StepOutcomes
from halting.errors import UsageError
from halting.survival import negative_entropy
from halting.trace import LoopTrace


class GeometricPrior(PonderCost):
    """KL(p ‖ g_N) = Σ_{n≤N} p_n·log(p_n / g_n) a token, in nats, with g the geometric distribution
    truncated at N and renormalised: g_n = λ(1 − λ)^(n−1) / (1 − (1 − λ)^N), λ = 1/prior_steps
    (Banino et al. 2021, section 2, training loss).

    N is the token's own executed steps. The paper truncates both where the token's distribution was
    cut: p at the first step by which at most ε is left, the rest of the mass on that step, and the
        prior "truncated at N". So both live on
    the same steps, the cost is never below 0, it is 0 exactly where p is the prior, and no other
    token of the batch has a say in it. Only the number depends on that choice, not the training:
    with a prior truncated anywhere at or beyond N, log p_n and log g_n stay and the normaliser
    alone moves, a constant that has no gradient.

    Two things follow. The cost jumps where N does: a token that leaves at step 1 costs 0 and pulls
    on nothing, like any token that leaves there. And on few steps the prior's mean is below
    `prior_steps`, which is the mean of the geometric distribution before it is cut.

    Differentiable in every mass; steps without mass (before a `MinSteps`) count 0. Read it in
    training: in evaluation the trace ends where the token left, and so do both distributions.

    Args:
        prior_steps: 1/λ, above 1; 5 is the paper's choice for parity.

    Raises:
        UsageError: for prior_steps of 1 or less.
    """

    unit = "nats"
    default_penalty = 0.01
    steered_by = "prior_steps"

    def __init__(self, prior_steps: float = 5.0):
        if not 1.0 < prior_steps < math.inf:
            raise UsageError(
                f"prior_steps is {prior_steps}.",
                "It is the mean of a geometric distribution over steps 1, 2, ...; a mean of 1 puts "
                "everything on step 1, and any other exit would be infinitely far from it.",
                "Use a finite number above 1, such as 5.",
            )
        self.prior_steps = prior_steps

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        log_stop = -math.log(self.prior_steps)
        log_go_on = math.log1p(-1.0 / self.prior_steps)
        own_steps = trace.steps.clamp(min=1).to(trace.mass.dtype)
        log_kept = torch.log(-torch.expm1(own_steps * log_go_on))
        log_prior = (
            log_stop + (trace.expected_steps - 1) * log_go_on - log_kept
        )  # Σ p_n·log g_n, since Σ p_n = 1
        return torch.where(trace.valid, negative_entropy(trace.mass) - log_prior, 0.0)
