"""What trains the two values of QHalt."""

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.costs.cost import PonderCost, StepOutcomes
from halting.readout import DeepSupervision
from halting.trace import LoopTrace


class QLearning(PonderCost):
    """½·[BCE(q_halt, sequence right) + BCE(q_continue, σ(value of the next step))], the mean over
    the steps up to the one where the sequence halted, in nats (HRM, Wang et al. 2025, arXiv
    2506.21734: L_ACT with the ½ of its code).

    The value of step n + 1 is max(q_halt, q_continue) there, or q_halt alone where n + 1 is the
    limit and halting is all that is left. It is a target: no gradient goes into it. The limit
    itself has no next step, and no second term. A sequence is right at a step when every position
    that is asked is; where none is, there is nothing to get wrong.

    Every token of a sequence pays what its sequence does, so in the mean over tokens a sequence
    counts by its length, as it does in the task's loss. The mean over steps is `DeepSupervision`'s,
    which keeps the published weight of this loss beside the task's: HRM updates the model after
    each step with that step's two losses.

    Works with `QHalt`. Gradient reaches q_halt and q_continue of the steps up to the halt, and
    nothing else.

    Raises:
        UsageError: when called, for the trace of a rule that says no q_halt, q_continue and value.
    """

    unit = "nats"
    needs_spread_mass = False
    needs_outcomes = True
    needs_aux = ("q_halt", "q_continue", "value")
    made_for = "QHalt"
    default_readout = DeepSupervision
    default_penalty = 1.0

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        assert outcomes is not None, "needs_outcomes says so"
        halt, go_on, value = self.aux_of(trace)
        right = outcomes.sequence_correct.unsqueeze(1).to(halt.dtype).expand_as(halt)
        losses = F.binary_cross_entropy_with_logits(halt, right, reduction="none")
        target = torch.sigmoid(value[..., 1:]).detach()
        ahead = F.binary_cross_entropy_with_logits(go_on[..., :-1], target, reduction="none")
        losses = losses + F.pad(torch.where(trace.ran[..., 1:], ahead, 0.0), (0, 1))
        return 0.5 * (DeepSupervision().loss_weights(trace) * losses).sum(-1)
