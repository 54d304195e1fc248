"""The entropy regulariser of Ouro's first stage, as a divergence from the uniform distribution."""

import torch
from torch import Tensor

from halting.costs.cost import PonderCost, StepOutcomes
from halting.survival import negative_entropy
from halting.trace import LoopTrace


class UniformPrior(PonderCost):
    """KL(p ‖ uniform on 1..N) = log N − H(p) a token, in nats (Ouro / LoopLM, Zhu et al. 2025,
    arXiv 2510.25741, the entropy-regularised objective of stage 1: Σ p_n·L_n − β·H(p)).

    Differs from the paper's −H(p) by log N, which has no gradient: so the cost is at least 0, it is
    0 exactly where each step is as likely as any other, and it is log N where all mass is on one.
    No depth is preferred before the task has spoken; what is saved is saved by the exit threshold q
    in evaluation.

    N is the token's own executed steps: the step limit in the training of `ExitGate`, where nobody
    leaves earlier. Differentiable in every mass; steps without mass count 0. Read it in training:
    in evaluation the trace ends where the token left.
    """

    unit = "nats"
    default_penalty = 0.05

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        own_steps = trace.steps.clamp(min=1).to(trace.mass.dtype)
        return torch.where(trace.valid, negative_entropy(trace.mass) + own_steps.log(), 0.0)
