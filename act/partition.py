"""Who stays in the loop after a step, and who leaves."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from act.slots import Slots


@dataclass(frozen=True)
class Partition:
    """The active tokens of a step, divided.

    Args:
        slots: of those who stay.
        stay: [A'] int64, their rows among the active tokens, ascending.
        out: [A - A'] int64, the rows of those who leave, ascending; all of them as a slice.
    """

    slots: Slots
    stay: Int[Tensor, " stay"]
    out: Int[Tensor, " out"] | slice


def partition_slots(tokens: Slots, leaves: Bool[Tensor, " A"]) -> Partition | None:
    """Divides the tokens; None while nobody leaves. On a CPU, where looking at a number costs
    nothing, by looking whenever one is wanted; elsewhere the host waits for the device once."""
    return (
        partition_on_cpu(tokens, leaves)
        if leaves.device.type == "cpu"
        else partition_on_device(tokens, leaves)
    )


def partition_on_cpu(tokens: Slots, leaves: Bool[Tensor, " A"]) -> Partition | None:
    """Each size is asked for when it is needed."""
    stay = (~leaves).nonzero().squeeze(-1)
    if len(stay) == len(tokens):
        return None
    return Partition(
        tokens.keep(stay), stay, leaves.nonzero().squeeze(-1) if len(stay) else slice(None)
    )


def partition_on_device(tokens: Slots, leaves: Bool[Tensor, " A"]) -> Partition | None:
    """The sizes of all that the next step is made of are fetched together: how many stay, and how
    many in the fullest sequence, which is the width of their layout."""
    stays = ~leaves
    counts = torch.zeros(tokens.batch, dtype=torch.int64, device=leaves.device)
    counts.scatter_add_(0, tokens.row, stays.to(torch.int64))
    number, width = torch.stack((counts.sum(), counts.max())).tolist()
    if number == len(tokens):
        return None
    stay = torch.nonzero_static(stays, size=number).squeeze(-1)
    out = (
        torch.nonzero_static(leaves, size=len(tokens) - number).squeeze(-1)
        if number
        else slice(None)
    )
    return Partition(tokens.keep(stay, (counts, width)), stay, out)
