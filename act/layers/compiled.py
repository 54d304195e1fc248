"""`torch.compile` for the parts of a step that work on each token alone, made once for any number
of tokens."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def _settings() -> Any:
    try:
        settings = import_module("torch._functorch.config")
    except ImportError:
        return None
    return settings if hasattr(settings, "donated_buffer") else None


_autograd_settings: Any = _settings()
"""Where compiled code is told not to reuse memory during a backward pass. The module is private to
PyTorch: where the setting is missing, everything runs eagerly (tests/act/test_private_torch.py
names the version that it was seen in)."""


def run(function: Callable[..., T], *given: Any, compiled: bool) -> T:
    """`function(*given)`, compiled if asked for, and if this PyTorch can be told what compiled code
    must not do.

    The number of tokens is a symbol in the compiled code, so that another active count is no reason
    to compile again (a single token is one, and so is a pass without gradients). What is outside
    such a part, attention and the choice of slots, stays eager.
    """
    if compiled and _autograd_settings is not None:
        return _compiled(function)(*given)
    return function(*given)


@cache
def _compiled(function: Callable[..., T]) -> Callable[..., T]:
    # Memory may not be reused while a backward pass runs: a graph may be gone through again
    # (`retain_graph`), as the rewinding cache does. PyTorch asks for this setting at each backward
    # pass, so it is set for the process.
    assert _autograd_settings is not None
    _autograd_settings.donated_buffer = False
    return torch.compile(function, dynamic=True)
