"""What trains the logit of CorrectnessHalt."""

from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.readout import DeepSupervision
from halting.trace import LoopTrace


class Correctness(PonderCost):
    """BCE(q, sequence right), the mean over executed steps, in nats (TRM, Jolicoeur-Martineau 2025,
    arXiv 2510.04871, the pseudocode; its public code halves it, which is a penalty of 0.5).

    A sequence is right at a step when every position that is asked is; where none is, there is
    nothing to get wrong. Every token of a sequence pays what its sequence does, so in the mean over
    tokens a sequence counts by its length, as it does in the task's loss. The mean over steps is
    `DeepSupervision`'s.

    Works with `CorrectnessHalt`. Gradient reaches q of every executed step.

    Raises:
        UsageError: when called, for the trace of a rule that says no q_correct.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_outcomes = True
    needs_aux = ("q_correct",)
    made_for = "CorrectnessHalt"
    default_readout = DeepSupervision
    default_penalty = 1.0

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        assert outcomes is not None, "needs_outcomes says so"
        (logit,) = self.aux_of(trace)
        right = outcomes.sequence_correct.unsqueeze(1).to(logit.dtype).expand_as(logit)
        losses = F.binary_cross_entropy_with_logits(logit, right, reduction="none")
        return (DeepSupervision().loss_weights(trace) * losses).sum(-1)
