"""The arrays of a ponder map, from the record of a loop."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError

if TYPE_CHECKING:
    from halting.trace import LoopTrace


def arrays_of(
    trace: "LoopTrace", texts: Sequence[Sequence[str]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What `PonderMap` takes.

    Args:
        trace: the record, on any device.
        texts: B lists of L, or rows as long as their valid tokens, which padding is put around.
        given: other arrays or tensors of the map, by name; None for what there is none of.

    Raises:
        UsageError: for texts that do not belong to the record.
    """
    valid = _numbers(trace.valid)
    arrays = {name: _numbers(value) for name, value in given.items() if value is not None}
    steps = _numbers(trace.steps)
    return {
        "tokens": np.zeros(valid.shape, np.int32),
        "ponder": steps.astype(np.float32),
        **arrays,
        "texts": _texts(valid, texts),
        "valid": valid,
        "steps": steps,
        "mass": _numbers(trace.mass),
        "score": np.where(_numbers(trace.ran), _numbers(trace.score), np.nan),
    }


def _texts(valid: NDArray[np.bool_], texts: Sequence[Sequence[str]]) -> list[list[str]]:
    rows = []
    for real, row in zip(valid, texts, strict=False):
        if len(row) not in (len(real), int(real.sum())):
            break
        shown = iter(row)
        rows.append(
            list(row) if len(row) == len(real) else [next(shown) if each else "" for each in real]
        )
    if len(rows) != len(valid) or len(texts) != len(valid):
        raise UsageError(
            f"The texts are rows of {[len(row) for row in texts]} strings.",
            f"The record has {len(valid)} sequences of {valid.sum(1).tolist()} valid tokens, "
            f"padded to {valid.shape[1]}.",
            "Give one string for each token.",
        )
    return rows


def _numbers(values: Any) -> NDArray[Any]:
    """A tensor, or what NumPy can read, as an array; float64 and bfloat16 as float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)
