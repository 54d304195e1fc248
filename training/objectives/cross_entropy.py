"""The cross entropy of the answers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from act.models.asked_losses import AskedLosses
from halting.errors import UsageError
from training.objectives.objective import Objective
from training.objectives.outcomes import token_losses
from training.tasks.task import IGNORE, Batch


class CrossEntropy(Objective):
    """Nats of the right answer, its target smoothed where asked (Szegedy et al. 2016, section 7):

        L = −(1 − ε)·ln p(target) − ε/V·Σ_v ln p(v).

    Args:
        label_smoothing: ε, the probability that is spread evenly over all answers.

    Raises:
        UsageError: for an ε outside of 0 … 1.
    """

    def __init__(self, label_smoothing: float = 0.0):
        if not 0.0 <= label_smoothing < 1.0:
            raise UsageError(
                f"--objective.label-smoothing {label_smoothing}.",
                "It is the probability that the target gives up to all answers alike.",
                "Write a number from 0 to below 1, such as 0.1.",
            )
        self.label_smoothing = label_smoothing

    def asked(self, batch: Batch) -> AskedLosses | None:
        if type(self).losses is not CrossEntropy.losses:
            return None  # a subclass has another loss
        return AskedLosses(batch.targets, batch.loss_weights, self.label_smoothing, of_steps=True)

    def losses(self, logits: Tensor, targets: Tensor, batch: Batch, index: Tensor) -> Tensor:
        if self.label_smoothing == 0.0:
            return token_losses(logits, targets)
        return F.cross_entropy(
            logits.to(torch.promote_types(torch.float32, logits.dtype)),
            targets,
            ignore_index=IGNORE,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
