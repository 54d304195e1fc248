"""What PyTorch can make of a loop, and what it cannot: how many steps a loop takes, and how many
tokens take each, is read off the numbers that it computes."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor

from halting.errors import UsageError

transforming: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", lambda: False
)
"""Whether a transform of torch.func is going on, such as `grad`. It is private to PyTorch: where it
is missing, PyTorch itself says what it does not take (tests/act/test_private_torch.py names the
version that it was seen in)."""
_functorch: Any = getattr(torch._C, "_functorch", None)
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


def check_transforms(x: Tensor, parameters: Callable[[], Iterable[Tensor]]) -> None:
    """Refuses to be traced, exported or mapped over.

    Args:
        x: what the loop, or the model around it, is given.
        parameters: gives the weights; asked for under a transform alone.

    Raises:
        UsageError: under torch.jit.trace, torch.export and torch.func.vmap.
    """
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        cannot("torch.jit.trace")
    if _is_exporting():
        cannot("torch.export")
    if transforming() and (_is_batched(x) or any(map(_is_batched, parameters()))):
        cannot("torch.func.vmap")


def _is_batched(tensor: Tensor) -> bool:
    """Whether `vmap` goes over it, also inside of `grad`."""
    if _functorch is None:
        return False
    while _functorch.is_gradtrackingtensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return _functorch.is_batchedtensor(tensor)


def cannot(transform: str) -> NoReturn:
    """Says that a transformation of PyTorch is none for a loop."""
    raise UsageError(
        f"{transform} cannot take a loop.",
        "Its tokens leave when a halting rule lets them, so the number of steps and the tokens of "
        "each step are read off what is computed, and no fixed graph holds them.",
        "Call the module as it is; torch.compile takes it (act.Block has compile_parts for what is "
        "worth compiling), torch.func.grad and functional_call do, and ponder export writes its "
        "weights as safetensors.",
    )


class NotScriptable:
    """A module that torch.jit.script refuses in three parts."""

    def __prepare_scriptable__(self) -> Any:
        cannot("torch.jit.script")
