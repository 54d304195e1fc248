"""`torch.compile` for the parts of a step that work on each token alone, made once for any number
of tokens."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch._functorch import config as autograd_config

T = TypeVar("T")


def run(function: Callable[..., T], *given: Any, compiled: bool) -> T:
    """`function(*given)`, compiled if asked for.

    The number of tokens is a symbol in the compiled code, so that another active count is no reason
    to compile again (a single token is one, and so is a pass without gradients). What is outside
    such a part, attention and the choice of slots, stays eager.
    """
    return _compiled(function)(*given) if compiled else function(*given)


@cache
def _compiled(function: Callable[..., T]) -> Callable[..., T]:
    # Memory may not be reused while a backward pass runs: a graph may be gone through again
    # (`retain_graph`), as the rewinding cache does. PyTorch asks for this setting at each backward
    # pass, so it is set for the process.
    autograd_config.donated_buffer = False
    return torch.compile(function, dynamic=True)
