"""Where a training stands, and the file in which a checkpoint says so."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from halting.errors import UsageError
from training.console.command_text import command_text

PROGRESS = "progress.json"


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Args:
        update: updates done.
        examples: training examples read, over all ranks: the next update starts at this example.
        train_seconds: spent training, evaluation left out.
        penalty: state of the ponder penalty.
        best: the best validation accuracy so far.
        best_checkpoint: the best evaluation by `--best-by`: state of a `BestTracker`.
        budget_checkpoint: the checkpoint within the target: state of a `BudgetTracker`.
        dealing: what the dealer has learned.
        flops: floating-point operations of training so far, over all ranks, by the steps that
            tokens took.
        mean_steps: executed steps a token in the last update; None before the first.
        first_loss: the task's loss at the first update, nats; None before it.
        recoveries: how often the run was taken back from a collapse.
        skipped: how many of the updates changed nothing, because loss or gradient was not finite.
        skipped_in_a_row: how many of them were the last ones.
        data: the digest of the files that the task reads; None where it reads none.
    """

    update: int = 0
    examples: int = 0
    train_seconds: float = 0.0
    penalty: dict | None = None
    best: float = -1.0
    best_checkpoint: dict | None = None
    budget_checkpoint: dict | None = None
    dealing: dict | None = None
    flops: float = 0.0
    mean_steps: float | None = None
    first_loss: float | None = None
    recoveries: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    data: str | None = None


@dataclass(frozen=True)
class WrittenProgress:
    """What `progress.json` says.

    Args:
        progress: where the training stood.
        ranks: how many trained.
        stage: ZeRO's.
        shapes: of every parameter.
    """

    progress: Progress
    ranks: int
    stage: int
    shapes: dict[str, list[int]]


def read_progress(folder: Path) -> WrittenProgress:
    """Where a checkpoint's training stood, and in what shape.

    Raises:
        UsageError: where that cannot be read.
    """
    try:
        about = json.loads((folder / PROGRESS).read_bytes())
        beside = {name: about.pop(name) for name in ("ranks", "stage", "shapes")}
        return TypeAdapter(WrittenProgress).validate_python({"progress": about, **beside})
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(
            f"{folder / PROGRESS} cannot be read: {told}.",
            "It says where the training stood.",
            "Go on from another checkpoint: "
            f"{command_text('ponder', 'train', '--resume', folder.parent.parent)}@UPDATE",
        ) from None


def progress_there(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None where that cannot be read."""
    if not (folder / PROGRESS).is_file():
        return None
    try:
        about = json.loads((folder / PROGRESS).read_bytes())
        return about if isinstance(about, dict) else None
    except (OSError, ValueError, RecursionError):
        return None
