"""Whether a task keeps what it promises, looked at in a few of its examples before anything
trains."""

from collections.abc import Mapping

import torch

from halting.errors import UsageError
from training.tasks.check_batch import check_batch, check_vocabulary
from training.tasks.task import SPLITS, Batch, Task

_EXAMPLES = 4
NO_EXAMPLES: Mapping[str, int] = {}


def check_task(task: Task, used: Mapping[str, int] = NO_EXAMPLES) -> None:
    """Makes the first examples of each split, twice and in parts, and the last that will be used.

    Args:
        task: any.
        used: how many examples of each split a run uses.

    Raises:
        UsageError: for attributes that are no such thing; for batches of wrong types, shapes or
            dtypes; for tokens and targets outside of the vocabulary; for examples that depend on
            anything but the seed, the split and their number; for a random state that is not left
            alone; and for examples that cannot be made.
    """
    check_attributes(task)
    for split in SPLITS:
        whole = made(task, split, 0, _EXAMPLES)
        check_vocabulary(whole, task)
        check_pure(task, split, whole)
        last = used.get(split, 0) - 1
        if last >= _EXAMPLES:
            check_vocabulary(made(task, split, last, 1), task)


def check_attributes(task: Task) -> None:
    """Refuses a vocabulary or a length that is no number of things.

    Raises:
        UsageError: for such an attribute.
    """
    wanted = [
        "vocab_size",
        "max_length",
        *(["vector_size"] if task.vector_size is not None else []),
    ]
    for attribute in wanted:
        value = getattr(task, attribute, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(
                f"{type(task).__name__} has {attribute} {value!r}.",
                "The model is built by it.",
                f"Set self.{attribute} in its __init__, to a whole number of 1 or more.",
            )


def check_pure(task: Task, split: str, whole: Batch) -> None:
    """Refuses a task whose examples are no pure function of seed, split and number.

    Args:
        task: any.
        split: of the examples.
        whole: its first examples, two or more, as `batch` has just made them.

    Raises:
        UsageError: for such a task.
    """
    name = type(task).__name__
    size = len(whole.tokens)
    half = size // 2
    later = made(task, split, half, size - half)
    again = made(task, split, 0, size)
    for call, one, other in (
        (f"batch({split!r}, 0, {size})", whole, again),
        (f"batch({split!r}, {half}, {size - half})", whole.rows(half, size), later),
    ):
        field = differing_field(one, other)
        if field is not None:
            raise UsageError(
                f"{name} makes other {field} when {call} is called again."
                if one is whole
                else f"{name} makes other {field} in {call} than of the same examples in "
                f"batch({split!r}, 0, {size}).",
                "An example is a function of the seed, the split and its number alone: a run that "
                "goes on, and ranks that each make their own rows, ask for it in another call.",
                "Draw from a generator of each example's own, such as "
                "np.random.default_rng((self.seed, SPLITS.index(split), number)), and pad every "
                "batch to max_length.",
            )


def made(task: Task, split: str, index: int, size: int) -> Batch:
    """What `batch` makes of some examples.

    Raises:
        UsageError: where it fails, makes another number of examples, or moves torch's random state.
    """
    name = type(task).__name__
    before = torch.get_rng_state()
    call = f"batch({split!r}, {index}, {size})"
    try:
        batch = task.batch(split, index, size)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name}.{call} fails: {type(error).__name__}: {error}",
            "A run asks for these examples; numbers go on beyond the end of a data set.",
            "Fix batch(split, index, size); where there are n examples, take example i modulo n.",
        ) from error
    check_batch(batch, name)
    if len(batch.tokens) != size:
        raise UsageError(
            f"{name}.{call} makes {len(batch.tokens)} examples.",
            f"It was asked for {size}.",
            "Return a row for each example; where there are n of them, take example i modulo n.",
        )
    if not torch.equal(torch.get_rng_state(), before):
        raise UsageError(
            f"{name}.{call} moves torch's random state.",
            "Dropout and sampling draw from it next: they would repeat themselves with a seed that "
            "is set here, and depend on the number of batches.",
            "Draw from a generator of its own: torch.Generator().manual_seed(...), or "
            "np.random.default_rng(...).",
        )
    return batch


def differing_field(one: Batch, other: Batch) -> str | None:
    """The first field that is not the same in both; None where all are."""
    ours = one.carried()
    theirs = other.carried()
    if ours.keys() != theirs.keys():
        return "fields"
    for name, value in ours.items():
        same = value.shape == theirs[name].shape and torch.equal(
            value.nan_to_num(), theirs[name].nan_to_num()
        )
        if not same:
            return name
    return None
