"""What an optimizer keeps of a parameter, as tensors with names."""

from typing import Any

import torch
from torch import Tensor

from halting.errors import UsageError

_NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64}
_TYPES = {kind.__name__: kind for kind in _NUMBERS}
_NOTHING = "none"


def encoded(state: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors under their keys; Python's numbers as tensors of no dimension, under "KEY:int" and
    the like; None under "KEY:none".

    Raises:
        UsageError: for another kind of value, which no checkpoint could keep.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            found[key] = value
        elif value is None:
            found[f"{key}:{_NOTHING}"] = torch.tensor(False)
        elif type(value) in _NUMBERS:
            found[f"{key}:{type(value).__name__}"] = torch.tensor(
                value, dtype=_NUMBERS[type(value)]
            )
        else:
            raise UsageError(
                f"The optimizer keeps {key} = {value!r} of a parameter.",
                "A checkpoint holds tensors, numbers and None.",
                "Have the optimizer keep one of these.",
            )
    return found


def decoded(name: str, values: Tensor) -> tuple[str, Any]:
    """Key and value that `encoded` made this of."""
    key, _, kind = name.partition(":")
    if kind == _NOTHING:
        return key, None
    return key, _TYPES[kind](values.item()) if kind else values
