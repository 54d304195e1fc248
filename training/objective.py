"""What is minimised: the task's loss, weighted as the readout says, plus the penalty times the
ponder cost."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from act.models.looped_model import ModelOutput
from halting.costs.cost import PonderCost, StepOutcomes
from training.tasks.task import IGNORE, Batch


@dataclass(frozen=True)
class Terms:
    """Sums over this rank's rows; whoever holds the global counts divides.

    Args:
        task: Σ task loss over asked positions, nats, with gradient.
        cost: Σ ponder cost over valid tokens, in the cost's unit, with gradient.
    """

    task: Tensor
    cost: Tensor


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy [...] of logits [... V], in float32 or wider; 0 where there is no target."""
    wide = logits.to(torch.promote_types(torch.float32, logits.dtype)).flatten(0, -2)
    losses = F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view(targets.shape)


def step_outcomes(output: ModelOutput, targets: Tensor) -> StepOutcomes:
    """What each executed step would have answered, laid out as [B L N]."""
    packed = output.step_logits
    assert packed is not None
    batch, length = targets.shape
    wanted = targets.flatten()[packed.index]
    prediction = packed.values.argmax(-1)

    def unpack(values: Tensor) -> Tensor:
        return packed.unpack(values, batch, length, output.trace.num_steps)

    correct = (prediction == wanted) & (wanted != IGNORE)
    asked = (targets != IGNORE) & output.trace.valid
    return StepOutcomes(
        unpack(token_losses(packed.values, wanted)), unpack(prediction), unpack(correct), asked
    )


def objective(output: ModelOutput, batch: Batch, cost: PonderCost | None) -> Terms:
    """The two sums of one micro-batch.

    Where the readout keeps every step, each step is an answer of its own and its loss is weighted
    as the readout says, by the mass spent on it (Σ_n p_n·L_n) or evenly: losses are mixed, not
    logits.
    """
    outcomes = step_outcomes(output, batch.targets) if output.step_logits is not None else None
    if outcomes is not None:
        weights = output.trace.mass if output.step_weights is None else output.step_weights
        task = (weights * outcomes.loss).sum()
    else:
        task = token_losses(output.logits, batch.targets).sum()
    if cost is None:
        return Terms(task, task.new_zeros(()))
    costs = cost(output.trace, outcomes)
    return Terms(task, torch.where(batch.valid, costs, 0.0).sum())
