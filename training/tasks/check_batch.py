"""Whether what a task makes is a batch."""

import torch

from halting.errors import UsageError
from training.tasks.task import Batch

_SHAPES = {
    "targets": "B L",
    "valid": "B L",
    "difficulty": "B L",
    "loss_weights": "B L",
    "documents": "B L",
    "source": "B S",
    "source_valid": "B S",
    "noise_level": "B",
}


def check_batch(batch: Batch, task: str) -> None:
    """Refuses fields whose shapes do not fit together, a source without its mask, and weights that
    cannot be.

    Args:
        batch: some examples.
        task: what made them, for messages.

    Raises:
        UsageError: for such a batch.
    """
    carried = batch.carried()
    sizes = {"B": batch.tokens.shape[0], "L": batch.tokens.shape[1]}
    for name, letters in _SHAPES.items():
        if name not in carried:
            continue
        shape = tuple(carried[name].shape)
        names = letters.split()
        wanted = dict(zip(names, shape, strict=False))
        if len(shape) != len(names) or any(
            sizes.setdefault(letter, size) != size for letter, size in wanted.items()
        ):
            raise UsageError(
                f"{task} makes {name} of shape {list(shape)}.",
                f"It is [{letters}] with {', '.join(f'{a} = {b}' for a, b in sizes.items())}, as "
                "the other fields of the batch say.",
                f"Have the task's batch() return {name} in that shape, or leave it out.",
            )
    if ("source" in carried) != ("source_valid" in carried):
        raise UsageError(
            f"{task} makes {'source' if 'source' in carried else 'source_valid'} alone.",
            "An encoder reads the tokens of one, and the other says which of them are real.",
            "Return both source [B S] and source_valid [B S].",
        )
    weights = batch.loss_weights
    if weights is not None and not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise UsageError(
            f"{task} makes loss_weights from {float(weights.min())} to {float(weights.max())}.",
            "The loss is divided by their sum, which only weights of 0 or more can be.",
            "Return finite weights, 0 or more.",
        )
