"""Slots: which tokens a block call computes, and where each stands in the batch."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from halting.errors import UsageError

LoopPath = Literal["auto", "packed", "dense"]
"""Which slots a call of the loop computes: the active tokens alone (packed), every position of the
batch (dense), or what pays."""


@dataclass(frozen=True)
class Slots:
    """A slots out of a [B L] batch, laid end to end in the order of the batch.

    Args:
        index: [A] int64, ascending, the slot's flat place in the [B L] batch.
        row: [A] int64, its sequence.
        position: [A] int64, its position in that sequence (and in the key-value cache).
        step: [A] int64, the loop step that it is at, counted from 1.
        computes: [A] bool, False for an idle slot of the dense path, which writes no keys; None
            when all compute.
        batch: B.
        length: L.
    """

    index: Int[Tensor, " A"]
    row: Int[Tensor, " A"]
    position: Int[Tensor, " A"]
    step: Int[Tensor, " A"]
    computes: Bool[Tensor, " A"] | None
    batch: int
    length: int

    @staticmethod
    def of(valid: Bool[Tensor, "B L"], positions: Int[Tensor, "B L"] | None = None) -> "Slots":
        """The slots of all valid tokens, about to take step 1; positions count from 0 in each row
        unless given."""
        batch, length = valid.shape
        return Slots._at(valid.flatten().nonzero().squeeze(-1), batch, length, positions)

    @staticmethod
    def everywhere(
        x: Float[Tensor, "B L D"], positions: Int[Tensor, "B L"] | None = None
    ) -> "Slots":
        """The same where every position of a batch holds a token: nothing has to be looked at."""
        batch, length = x.shape[:2]
        return Slots._at(torch.arange(batch * length, device=x.device), batch, length, positions)

    @staticmethod
    def _at(index: Tensor, batch: int, length: int, positions: Tensor | None) -> "Slots":
        position = index % max(length, 1) if positions is None else positions.flatten()[index]
        row = index.div(max(length, 1), rounding_mode="floor")
        slots = Slots(index, row, position, torch.ones_like(index), None, batch, length)
        slots.__dict__["common_step"] = 1
        return slots

    def __len__(self) -> int:
        return self.index.shape[0]

    @property
    def full(self) -> bool:
        """Whether there is a slot for every position of the batch, so that gather and scatter are
        the identity."""
        return len(self) == self.batch * self.length

    def keep(
        self,
        rows: Bool[Tensor, " A"] | Int[Tensor, " A"],
        counted: tuple[Int[Tensor, " B"], int] | None = None,
    ) -> "Slots":
        """Some of these slots: a bool mask or ascending indices. `counted`: of those, where it is
        known already."""
        kept = replace(
            self,
            index=self.index[rows],
            row=self.row[rows],
            position=self.position[rows],
            step=self.step[rows],
        )
        if counted is not None:
            kept.__dict__["counted"] = counted
        if self.__dict__.get("common_step") is not None:
            kept.__dict__["common_step"] = self.common_step
        return kept

    def next_step(self) -> "Slots":
        """The same slots one step later. What was worked out about their layout is kept."""
        later = replace(self, step=self.step + 1)
        later.__dict__.update(
            {name: self.__dict__[name] for name in ("counted", "layout") if name in self.__dict__}
        )
        if self.__dict__.get("common_step") is not None:
            later.__dict__["common_step"] = self.__dict__["common_step"] + 1
        return later

    def at_steps(self, step: Int[Tensor, " A"]) -> "Slots":
        """The same slots at steps of their own, counted from 1. What was worked out about their
        layout is kept."""
        moved = replace(self, step=step)
        moved.__dict__.update(
            {name: self.__dict__[name] for name in ("counted", "layout") if name in self.__dict__}
        )
        return moved

    @cached_property
    def common_step(self) -> int | None:
        """The step of the computing slots; None where they are at different ones, 1 where none
        computes. The loop knows it; of slots made by hand it is read off, which a device is waited
        for."""
        steps = self.step if self.computes is None else self.step[self.computes]
        if not len(steps):
            return 1
        first, last = torch.stack(steps.aminmax()).tolist()
        return first if first == last else None

    def take(self, values: Shaped[Tensor, "B L *rest"]) -> Shaped[Tensor, "A *rest"]:
        """What stands at each slot's place in values of the whole batch."""
        values = values.flatten(0, 1)
        return values if self.full else values.index_select(0, self.index)

    def take_rows(self, values: Shaped[Tensor, "B *rest"]) -> Shaped[Tensor, "A *rest"]:
        """What each slot's sequence has, out of values with one entry a sequence."""
        return values.index_select(0, self.row)

    def blank_idle(self, values: Tensor) -> Tensor:
        """Values [A D] with idle slots zeroed, so that nothing in them reaches anybody, in either
        direction."""
        return (
            values
            if self.computes is None
            else torch.where(self.computes.unsqueeze(-1), values, 0.0)
        )

    @cached_property
    def counted(self) -> tuple[Int[Tensor, " B"], int]:
        """How many slots each sequence has, and the most that any has."""
        counts = torch.zeros(self.batch, dtype=torch.int64, device=self.row.device)
        counts.scatter_add_(0, self.row, torch.ones_like(self.row))
        return counts, int(counts.max()) if len(self) else 0

    @cached_property
    def layout(self) -> "PaddedLayout":
        """The [B Q] rectangle that attention works on."""
        if self.full:
            return PaddedLayout(self.batch, self.length, None)
        counts, width = self.counted
        start = counts.cumsum(0) - counts
        column = torch.arange(len(self), device=self.row.device) - start[self.row]
        place = self.row * width + column
        return PaddedLayout(self.batch, width, None if len(self) == self.batch * width else place)


@dataclass(frozen=True)
class PaddedLayout:
    """Packed rows laid out as a padded rectangle of B rows and Q columns, Q the most slots of any
    row.

    Args:
        batch: B.
        width: Q.
        place: [A] int64, the slot's flat place in the rectangle; None when it is the identity.
    """

    batch: int
    width: int
    place: Int[Tensor, " A"] | None

    def pad(self, values: Tensor) -> Tensor:
        """Packed [A ...] to [B Q ...], zeros in the padding."""
        if self.place is not None:
            blank = values.new_zeros(self.batch * self.width, *values.shape[1:])
            values = blank.index_copy(0, self.place, values)
        return values.view(self.batch, self.width, *values.shape[1:])

    def unpad(self, values: Tensor) -> Tensor:
        """[B Q ...] to packed [A ...]."""
        flat = values.reshape(self.batch * self.width, *values.shape[2:])
        return flat if self.place is None else flat.index_select(0, self.place)


def check_valid(valid: Tensor | None, batch: int, length: int) -> None:
    """Refuses a mask of valid tokens that is not [B L] bool.

    Raises:
        UsageError: for another shape or dtype.
    """
    if valid is None:
        return
    if valid.shape != (batch, length):
        raise UsageError(
            f"valid has shape {tuple(valid.shape)}, for an input of batch {batch} and length "
            f"{length}.",
            "It says of each position whether a token stands there.",
            f"Pass a bool tensor of shape ({batch}, {length}), or leave it out if all positions "
            "hold one.",
        )
    if valid.dtype != torch.bool:
        raise UsageError(
            f"valid has dtype {str(valid.dtype).removeprefix('torch.')}.",
            "It is a mask, True on real tokens: numbers could as well be meant as lengths or as "
            "weights.",
            "Pass valid.bool() if 1 marks real tokens.",
        )


def packed_slots(tokens: Slots) -> Slots:
    """The fast path's choice: the active tokens and nothing else."""
    return tokens


def dense_slots(tokens: Slots) -> Slots:
    """The reference's choice: every position of the batch; those of inactive tokens are idle."""
    if tokens.full:
        return tokens
    places = tokens.batch * tokens.length
    index = torch.arange(places, device=tokens.index.device)  # [B*L]
    row = index.div(tokens.length, rounding_mode="floor")
    computes = torch.zeros_like(index, dtype=torch.bool)
    computes = computes.index_fill(0, tokens.index, True)
    # [A] laid into [B*L]; idle slots hold a position and a step that there are.
    position = torch.zeros_like(index).index_copy(0, tokens.index, tokens.position)
    step = torch.ones_like(index).index_copy(0, tokens.index, tokens.step)
    slots = Slots(index, row, position, step, computes, tokens.batch, tokens.length)
    if "common_step" in tokens.__dict__:
        slots.__dict__["common_step"] = tokens.common_step
    return slots


def place(values: Tensor, tokens: Slots, slots: Slots, onto: Tensor | None = None) -> Tensor:
    """Values [A D] of the active tokens, laid into the slots of a call; idle ones hold `onto` [B*L
    D], or zeros."""
    if slots is tokens:
        return values
    if onto is None:
        onto = values.new_zeros(len(slots), *values.shape[1:])
    return onto.index_copy(0, tokens.index, values.to(onto.dtype))


def pick(values: Tensor, tokens: Slots, slots: Slots) -> Tensor:
    """The active tokens' values [A D] out of those of a call's slots."""
    return values if slots is tokens else values.index_select(0, tokens.index)


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
