"""What each executed step would have answered, and how far off it is."""

import torch
from torch import Tensor
from torch.nn import functional as F

from act.models.looped_model import ModelOutput
from halting.costs.cost import StepOutcomes
from training.tasks.task import IGNORE


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy [...] of logits [... V], in float32 or wider; 0 where there is no target."""
    wide = logits.to(torch.promote_types(torch.float32, logits.dtype)).flatten(0, -2)
    losses = F.cross_entropy(wide, targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view(targets.shape)


def step_outcomes(
    output: ModelOutput, targets: Tensor, losses: Tensor | None = None
) -> StepOutcomes:
    """What each executed step would have answered, laid out as [B L N].

    Args:
        output: with `step_logits`, or `answers` of every step.
        targets: [B L].
        losses: [M] of every executed step, packed as `step_logits` are; None: the cross entropy.
    """
    batch, length = targets.shape
    if output.answers is not None:
        packed = output.answers.steps
        assert packed is not None
        losses = output.answers.losses
        prediction = output.answers.predictions
    else:
        packed = output.step_logits
        assert packed is not None
        prediction = packed.values.argmax(-1)
    wanted = targets.flatten()[packed.index]

    def unpack(values: Tensor) -> Tensor:
        return packed.unpack(values, batch, length, output.trace.num_steps)

    correct = (prediction == wanted) & (wanted != IGNORE)
    asked = (targets != IGNORE) & output.trace.valid
    losses = token_losses(packed.values, wanted) if losses is None else losses
    return StepOutcomes(unpack(losses), unpack(prediction), unpack(correct), asked)
