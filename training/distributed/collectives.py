"""What the ranks must agree on, and how they do: sums, flags, the step count. Alone, every rank
agrees with itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def is_distributed() -> bool:
    """Whether this process is one of several (or runs under a launcher)."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if is_distributed() else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all ranks, element by element."""
    if not is_distributed():
        return values
    values = values.clone()
    dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if not is_distributed():
        return flag
    value = torch.tensor([int(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def someone_active(device: torch.device) -> Callable[[int], bool]:
    """A recurrence's `keep_going` for loops in which all ranks do something together: told how many
    tokens are active here, it says whether any rank still has one."""
    return lambda active: any_rank(active > 0, device)


def all_gather(value: float, device: torch.device) -> list[float]:
    """The value of each rank, in order."""
    if not is_distributed():
        return [value]
    values = torch.zeros(world_size(), dtype=torch.float64, device=device)
    values[rank()] = value
    dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values.tolist()


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        dist.barrier()


def all_gather_object(value: Any) -> list[Any]:
    """A plain value of each rank, in order, on all ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Rank 0's plain value, on all ranks."""
    if not is_distributed():
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]
