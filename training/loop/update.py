"""What one update measured, and what happened since the last evaluation."""

import math
from dataclasses import dataclass, replace
from typing import Any

from training.checkpoints.progress import Progress


@dataclass(frozen=True)
class Update:
    """What one update measured, over all ranks.

    Args:
        loss: what was minimised: task + penalty · cost + the block's auxiliary loss.
        task_loss: nats per position that has a target.
        ponder_cost: per valid token, in the cost's unit.
        auxiliary_loss: of the block, per valid token and weighted; None where it has none.
        mean_steps: executed steps per valid token.
        mean_ponder: the depth that the rule means, as evaluation would show it, per valid token.
        depth: the step limit that it ran with.
        valid: tokens.
        stop: a rank was asked to stop.
        gradient_norm: before clipping.
        skipped: loss or gradient was not finite, on whatever rank, and nothing changed on any.
    """

    loss: float
    task_loss: float
    ponder_cost: float
    mean_steps: float
    mean_ponder: float
    depth: int
    valid: int
    stop: bool
    auxiliary_loss: float | None = None
    gradient_norm: float = math.nan
    skipped: bool = False


def advanced(
    progress: Progress,
    measured: Update,
    seconds: float,
    *,
    examples: int,
    flops: float,
    penalty: dict[str, Any],
    dealing: dict[str, Any] | None,
) -> Progress:
    """Where a training stands after an update.

    Args:
        progress: before it.
        measured: the update.
        seconds: that it took.
        examples: that it read, over all ranks.
        flops: floating-point operations of it.
        penalty, dealing: states after it.
    """
    skipped = measured.skipped
    return replace(
        progress,
        update=progress.update + 1,
        examples=progress.examples + examples,
        train_seconds=progress.train_seconds + seconds,
        penalty=penalty,
        dealing=dealing,
        flops=progress.flops + flops,
        mean_steps=progress.mean_steps if skipped else measured.mean_steps,
        first_loss=progress.first_loss or (None if skipped else measured.task_loss),
        skipped=progress.skipped + skipped,
        skipped_in_a_row=progress.skipped_in_a_row + 1 if skipped else 0,
    )


class MetricsSinceEvaluation:
    """What happened since the last evaluation."""

    def __init__(self) -> None:
        self.updates = 0
        self.taken = 0
        self.tokens = 0
        self.seconds = 0.0
        self.loss = 0.0
        self.task_loss = 0.0
        self.auxiliary_loss = 0.0

    def add(self, measured: Update, seconds: float) -> None:
        self.updates = self.updates + 1
        self.tokens = self.tokens + measured.valid
        self.seconds = self.seconds + seconds
        if not measured.skipped:  # whose loss may be no number
            self.taken += 1
            self.loss = self.loss + measured.loss
            self.task_loss = self.task_loss + measured.task_loss
            self.auxiliary_loss = self.auxiliary_loss + (measured.auxiliary_loss or 0.0)

    @property
    def penalty_share(self) -> float:
        """How much of the loss was penalty · cost."""
        others = self.task_loss + self.auxiliary_loss
        return 1 - others / self.loss if self.loss > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)
