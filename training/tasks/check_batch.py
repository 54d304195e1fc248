"""Whether what a task makes is a batch."""

from dataclasses import fields

import torch
from torch import Tensor

from halting.errors import UsageError
from training.tasks.task import IGNORE, Batch, Task

_SHAPES = {
    "tokens": "B L",
    "targets": "B L",
    "valid": "B L",
    "difficulty": "B L",
    "loss_weights": "B L",
    "documents": "B L",
    "source": "B S",
    "source_valid": "B S",
    "noise_level": "B",
}
_MASKS = ("valid", "source_valid")
_NUMBERS = ("difficulty", "loss_weights", "noise_level")


def check_batch(batch: object, task: str) -> None:
    """Refuses what is no `Batch`, fields whose types or shapes do not fit together, a source
    without its mask, and weights that cannot be.

    Args:
        batch: what a task returned.
        task: what made it, for messages.

    Raises:
        UsageError: for such a batch.
    """
    if not isinstance(batch, Batch):
        raise UsageError(
            f"{task}.batch() returns {_an(type(batch).__name__)}.",
            "Training reads its examples from the fields of a Batch.",
            "Write `return Batch(tokens, targets, valid, difficulty)` (training.Batch).",
        )
    for field in fields(batch):
        value = getattr(batch, field.name)
        if value is not None or field.default is not None:
            _check_dtype(field.name, value, task)
    carried = batch.carried()
    _check_shapes(carried, task)
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


def check_vocabulary(batch: Batch, task: Task) -> None:
    """Refuses tokens and targets that the task's vocabulary does not have, targets on padding, and
    sequences that are longer than the task says.

    Args:
        batch: some examples, of the right shapes.
        task: what made them.

    Raises:
        UsageError: for such a batch.
    """
    name = type(task).__name__
    size = task.vocab_size
    length = batch.tokens.shape[1]
    if not 1 <= length <= task.max_length:
        raise UsageError(
            f"{name} makes sequences of {length} positions, and its max_length is "
            f"{task.max_length}.",
            "Models are built for that many positions, and memory is planned for them.",
            f"Set max_length to {max(1, length)}, or cut the sequences.",
        )
    if task.vector_size is None:
        _check_numbers("token", batch.tokens[batch.valid], size, name)
    on_padding = batch.has_target & ~batch.valid
    if bool(on_padding.any()):
        raise UsageError(
            f"{name} makes {int(on_padding.sum())} targets on padding.",
            "Nothing is computed there, so nothing that is learned could answer them.",
            f"Set targets to IGNORE ({IGNORE}) where valid is False.",
        )
    _check_numbers("target", batch.targets[batch.has_target], size, name)


def _check_numbers(what: str, numbers: Tensor, size: int, name: str) -> None:
    outside = numbers[(numbers < 0) | (numbers >= size)]
    if not len(outside):
        return
    but = f", or {IGNORE} where there is no target" if what == "target" else ""
    raise UsageError(
        f"{name} makes the {what} {int(outside[0])}, and its vocab_size is {size}.",
        f"{what.capitalize()}s are numbers from 0 to {size - 1}{but}; a model has no row for "
        "another.",
        f"Set vocab_size to {int(numbers.max()) + 1}, or return {what}s below {size}."
        if int(numbers.max()) >= size
        else f"Return {what}s of 0 or more{but}.",
    )


def _check_dtype(name: str, value: object, task: str) -> None:
    if name in _MASKS:
        fits = isinstance(value, Tensor) and value.dtype == torch.bool
        wanted = "a bool tensor, True on real tokens"
        cast = ".bool()"
    elif name in _NUMBERS:
        fits = isinstance(value, Tensor) and value.is_floating_point()
        wanted = "a tensor of floating-point numbers, such as torch.float32"
        cast = ".float()"
    else:
        fits = isinstance(value, Tensor) and value.dtype == torch.int64
        wanted = "a tensor of whole numbers, torch.int64"
        cast = ".long()"
    if not fits:
        found = str(value.dtype) if isinstance(value, Tensor) else _an(type(value).__name__)
        raise UsageError(
            f"{task} makes {name} as {found}.",
            f"It is {wanted}.",
            f"Have the task's batch() return {name} as that; of a tensor with the right values it "
            f"is {name}{cast}.",
        )


def _check_shapes(carried: dict[str, Tensor], task: str) -> None:
    sizes: dict[str, int] = {}
    for name, letters in _SHAPES.items():
        if name not in carried:
            continue
        shape = tuple(carried[name].shape)
        names = letters.split()
        # Positions may read vectors: [B L K].
        rank = (2, 3) if name == "tokens" else (len(names),)
        wanted = dict(zip(names, shape, strict=False))
        if len(shape) not in rank or any(
            sizes.setdefault(letter, size) != size for letter, size in wanted.items()
        ):
            known = ", ".join(f"{a} = {b}" for a, b in sizes.items())
            raise UsageError(
                f"{task} makes {name} of shape {list(shape)}.",
                f"It is [{letters}]{f' with {known}, as the other fields say' if sizes else ''}.",
                f"Have the task's batch() return {name} in that shape, or leave it out.",
            )


def _an(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
