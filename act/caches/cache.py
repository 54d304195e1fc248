"""Keys and values that queries attend to: what each token wrote at the last step it was computed on
(law 2)."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from act.layers.attention import AttentionContext, attend, attend_packed
from act.slots import Slots


class KeyValueCache(ABC):
    """The keys and values of every layer of a block. Query tokens write theirs, then attend over
    all that is visible.

    Attributes:
        visible: [B S] bool, the positions that hold a token; None when all do.
        max_steps: the last loop step that it has room for; None where it does not matter.
    """

    visible: Tensor | None
    max_steps: int | None = None

    @abstractmethod
    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "A H Dh"],
        keys: Float[Tensor, "A Hkv Dh"],
        values: Float[Tensor, "A Hkv Dh"],
        slots: Slots,
        context: AttentionContext,
    ) -> "tuple[Float[Tensor, 'A H Dh'], KeyValueCache]":
        """The computing slots write their keys and values (idle ones write nothing); then all slots
        read."""

    def detach(self) -> "KeyValueCache":
        """The cache with its gradient cut; a cache that carries none is itself."""
        return self

    def blank(self) -> "KeyValueCache":
        """The cache for a step that writes every row; one that is written in place is itself."""
        return self


class BufferedCache(KeyValueCache):
    """A cache that is written to and read as a whole, for autograd to see or for nobody."""

    @abstractmethod
    def write(
        self,
        layer: int,
        keys: Float[Tensor, "A Hkv Dh"],
        values: Float[Tensor, "A Hkv Dh"],
        slots: Slots,
    ) -> "BufferedCache":
        """The cache after the computing slots wrote their keys and values (idle ones write
        nothing)."""

    @abstractmethod
    def read(
        self, layer: int, slots: Slots
    ) -> tuple[Float[Tensor, "B S Hkv Dh"], Float[Tensor, "B S Hkv Dh"]]:
        """Everything the slots' rows hold at the slots' step; zeros where nothing was ever
        written."""

    def attend(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        slots: Slots,
        context: AttentionContext,
    ) -> tuple[Tensor, KeyValueCache]:
        cache = self.write(layer, keys, values, slots)
        return attend_packed(queries, *cache.read(layer, slots), slots, context), cache


class FunctionalCache(BufferedCache):
    """The reference for training: a write makes a new buffer, so autograd sees every version. Never
    modified in place.

    Args:
        visible: [B S] bool, or None when every position holds a token.
        buffers: keys and values [B*S Hkv Dh] of each layer written so far.
    """

    def __init__(
        self, visible: Bool[Tensor, "B S"] | None, buffers: tuple[tuple[Tensor, Tensor], ...] = ()
    ):
        self.visible = visible
        self.buffers = buffers

    def write(self, layer: int, keys: Tensor, values: Tensor, slots: Slots) -> "FunctionalCache":
        old = self.buffers[layer] if layer < len(self.buffers) else (None, None)
        new = (_written(old[0], keys, slots), _written(old[1], values, slots))
        return FunctionalCache(
            self.visible, (*self.buffers[:layer], new, *self.buffers[layer + 1 :])
        )

    def read(self, layer: int, slots: Slots) -> tuple[Tensor, Tensor]:
        keys, values = self.buffers[layer]
        shape = (slots.batch, slots.length, *keys.shape[1:])
        return keys.view(shape), values.view(shape)

    def blank(self) -> "FunctionalCache":
        return FunctionalCache(self.visible)

    def detach(self) -> "FunctionalCache":
        return FunctionalCache(
            self.visible, tuple((keys.detach(), values.detach()) for keys, values in self.buffers)
        )


def _written(old: Tensor | None, new: Tensor, slots: Slots) -> Tensor:
    """A new buffer: the old one (zeros before the first write) with the computing slots' rows
    replaced."""
    if slots.full and slots.computes is None:
        return new
    if old is None:
        old = new.new_zeros(slots.batch * slots.length, *new.shape[1:])
    if slots.computes is not None:
        return torch.where(slots.computes.view(-1, 1, 1), new, old)
    return old.index_copy(0, slots.index, new)


class InPlaceCache(BufferedCache):
    """For inference: one buffer a layer, written in place. With a capacity S beyond the batch's
    length it is also the decoding cache of layers that run once (prelude and coda), or the *last
    step only* approximation for a loop.

    Args:
        visible: [B S] bool, or None when every position holds a token.
        batch: B.
        capacity: S.
    """

    def __init__(self, visible: Bool[Tensor, "B S"] | None, batch: int, capacity: int):
        self.visible = visible
        self.batch = batch
        self.capacity = capacity
        self.buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self.borrowed: set[int] = set()

    def write(self, layer: int, keys: Tensor, values: Tensor, slots: Slots) -> "InPlaceCache":
        if slots.full and slots.computes is None and slots.length == self.capacity:
            # Every row: a copy comes with the first step that writes some.
            self.buffers[layer] = (keys, values)
            self.borrowed.add(layer)
            return self
        if layer not in self.buffers:
            shape = (self.batch * self.capacity, *keys.shape[1:])
            self.buffers[layer] = (keys.new_zeros(shape), values.new_zeros(shape))
        elif layer in self.borrowed:
            self.borrowed.remove(layer)
            self.buffers[layer] = (self.buffers[layer][0].clone(), self.buffers[layer][1].clone())
        places = slots.row * self.capacity + slots.position
        if slots.computes is not None:
            places = places[slots.computes]
            keys = keys[slots.computes]
            values = values[slots.computes]
        for buffer, new in zip(self.buffers[layer], (keys, values), strict=True):
            buffer.index_copy_(0, places, new)
        return self

    def read(self, layer: int, slots: Slots) -> tuple[Tensor, Tensor]:
        keys, values = self.buffers[layer]
        shape = (self.batch, self.capacity, *keys.shape[1:])
        return keys.view(shape), values.view(shape)


class StepwiseCache(BufferedCache):
    """Exact decoding: keys and values of every loop step are kept, memory × N.

    A query at step n reads of an earlier token, which halted at m, what it wrote at step min(n, m):
    so a write at step n goes to level n and all later levels, and later steps of the same token
    overwrite them. The slots of one call may be at different steps: each is written from its own
    level on and reads its own, as in a call for each step. Where they share one, nothing is copied.

    Args:
        visible: [B S] bool, or None when every position holds a token.
        batch: B.
        capacity: S.
        num_steps: N, the step limit; the loop refuses a larger one.

    Attributes:
        buffers: keys and values [N B*S Hkv Dh] of each layer written so far.
    """

    def __init__(
        self, visible: Bool[Tensor, "B S"] | None, batch: int, capacity: int, num_steps: int
    ):
        self.visible = visible
        self.batch = batch
        self.capacity = capacity
        self.num_steps = num_steps
        self.max_steps = num_steps
        self.buffers: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        slots: Slots,
        context: AttentionContext,
    ) -> tuple[Tensor, KeyValueCache]:
        if slots.common_step is not None:
            return super().attend(layer, queries, keys, values, slots, context)
        self.write(layer, keys, values, slots)
        mask = context.mask_of_each(slots, self.capacity)  # [A 1 1 S]
        alone = replace(context, mask=mask, is_causal=False, ragged=None)
        # Each query is a row of its own, with the keys of its own level: [A 1 H Dh].
        attended = attend(queries.unsqueeze(1), *self.read_each(layer, slots), alone)
        return attended.squeeze(1), self

    def write(self, layer: int, keys: Tensor, values: Tensor, slots: Slots) -> "StepwiseCache":
        if layer not in self.buffers:
            shape = (self.num_steps, self.batch * self.capacity, *keys.shape[1:])
            self.buffers[layer] = (keys.new_zeros(shape), values.new_zeros(shape))
        places = slots.row * self.capacity + slots.position  # [A]
        level = slots.step - 1  # [A]
        if slots.computes is not None:
            places = places[slots.computes]
            level = level[slots.computes]
            keys = keys[slots.computes]
            values = values[slots.computes]
        for buffer, new in zip(self.buffers[layer], (keys, values), strict=True):
            if slots.common_step is not None:
                buffer[slots.common_step - 1 :, places] = new
                continue
            levels = torch.arange(self.num_steps, device=level.device).unsqueeze(-1)  # [N 1]
            later = (levels >= level)[..., None, None]  # [N A 1 1]
            buffer[:, places] = torch.where(later, new, buffer[:, places])
        return self

    def read(self, layer: int, slots: Slots) -> tuple[Tensor, Tensor]:
        assert slots.common_step is not None, "slots at different steps read each their own level"
        keys, values = self.buffers[layer]
        shape = (self.batch, self.capacity, *keys.shape[2:])
        level = slots.common_step - 1
        return keys[level].view(shape), values[level].view(shape)

    def read_each(
        self, layer: int, slots: Slots
    ) -> tuple[Float[Tensor, "A S Hkv Dh"], Float[Tensor, "A S Hkv Dh"]]:
        """What each slot's sequence holds at the slot's own step."""
        keys, values = self.buffers[layer]
        shape = (self.num_steps, self.batch, self.capacity, *keys.shape[2:])
        level = slots.step - 1
        return keys.view(shape)[level, slots.row], values.view(shape)[level, slots.row]
