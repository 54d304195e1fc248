"""Attention of packed queries without a padded rectangle: kernels for GPUs."""

from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from act.layers.compiled import run
from act.slots import Slots

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

# The kernels are imported where they are called: they bring PyTorch's compiler along, which takes
# over a second, and padded attention needs none of it.
BLOCK = 128
"""Queries, and keys, that a block-mask kernel takes at once."""


class RaggedAttention:
    """What one step's packed queries read, each from the rows of its own sequence. Where a query
    sees its whole sequence and the numbers are 16 bits wide, PyTorch's variable-length flash
    kernel; else FlexAttention with a block mask (Dong et al. 2024), which skips the blocks that no
    query of a block can see.

    Made once a step, without waiting for the device. On a CPU FlexAttention has no backward pass,
    and what torch 2.13 compiles for it there fails, so the loop attends over the padded rectangle
    instead.

    Args:
        slots: of the queries, all of them computing.
        visible: [B S] bool, the positions that hold a token; None when all do.
        causal: a query sees positions up to its own.
        capacity: S.
        documents: [B S], the document of each position, where a query sees its own alone.

    Attributes:
        devices: kinds of device where the loop attends like this.
    """

    devices: ClassVar[tuple[str, ...]] = ("cuda",)

    def __init__(
        self,
        slots: Slots,
        visible: Bool[Tensor, "B S"] | None,
        causal: bool,
        capacity: int,
        documents: Int[Tensor, "B S"] | None = None,
    ):
        self.slots = slots
        self.visible = visible
        self.causal = causal
        self.capacity = capacity
        self.documents = documents

    def __call__(
        self,
        queries: Float[Tensor, "A H Dh"],
        keys: Float[Tensor, "B S Hkv Dh"],
        values: Float[Tensor, "B S Hkv Dh"],
    ) -> Float[Tensor, "A H Dh"]:
        """What each query reads."""
        keys = keys.flatten(0, 1)
        values = values.flatten(0, 1)
        narrow = queries.is_cuda and queries.dtype in (torch.float16, torch.bfloat16)
        if self.whole_sequences and narrow and find_spec("torch.nn.attention.varlen"):
            return self._variable_length(queries, keys, values)
        return self._block_masked(queries, keys, values)

    @property
    def whole_sequences(self) -> bool:
        """Whether each query sees every position of its sequence."""
        return self.visible is None and self.documents is None and not self.causal

    def sees(self) -> Bool[Tensor, "A S"]:
        """Which positions of its sequence each query sees, where no kernel can be told."""
        slots = self.slots
        columns = torch.arange(self.capacity, device=slots.position.device)
        seen = columns < self.capacity if self.visible is None else self.visible[slots.row]
        if self.causal:
            seen = seen & (columns <= slots.position.unsqueeze(-1))
        if self.documents is not None:
            own = self.documents[slots.row, slots.position]
            seen = seen & (self.documents[slots.row] == own.unsqueeze(-1))
        return seen.expand(len(slots), self.capacity)

    @cached_property
    def bounds(self) -> tuple[Int[Tensor, " B+1"], Int[Tensor, " B+1"]]:
        """int32, where each sequence's queries start, and where its keys do; the last entry is
        their number."""
        counts, _ = self.slots.counted
        of_queries = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        of_keys = (
            torch.arange(self.slots.batch + 1, dtype=torch.int32, device=counts.device)
            * self.capacity
        )
        return of_queries, of_keys

    def _variable_length(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        of_queries, of_keys = self.bounds
        # enable_gqa is an argument of later versions.
        shared: Any = {"enable_gqa": True} if keys.shape[1] != queries.shape[1] else {}
        most = self.slots.counted[1]
        answer = varlen_attn(
            queries, keys, values, of_queries, of_keys, max_q=most, max_k=self.capacity, **shared
        )
        assert isinstance(answer, Tensor)
        return answer

    def _block_masked(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        laid = (each.transpose(0, 1).unsqueeze(0) for each in (queries, keys, values))
        shared = keys.shape[1] != queries.shape[1]
        answer = run(_flex, *laid, self.block_mask, shared, compiled=queries.is_cuda)
        return answer.squeeze(0).transpose(0, 1)

    @cached_property
    def block_mask(self) -> "BlockMask":
        """Which keys [B*S] each of the packed queries sees, by blocks. The queries ascend in the
        batch, and each sees a stretch of its sequence, so those of a block see nothing outside one
        stretch of blocks of keys."""
        from torch.nn.attention.flex_attention import BlockMask

        first = self.slots.row * self.capacity
        last = first + (self.slots.position if self.causal else self.capacity - 1)
        device = first.device
        count = len(first)
        total = self.slots.batch * self.capacity
        starts = torch.arange(0, count, BLOCK, device=device)
        low = first[starts] // BLOCK
        high = last[(starts + BLOCK - 1).clamp(max=count - 1)] // BLOCK
        blocks = low.unsqueeze(-1) + torch.arange(-(-total // BLOCK), device=device)
        return BlockMask.from_kv_blocks(
            (high - low + 1).to(torch.int32)[None, None],
            blocks.clamp(max=-(-total // BLOCK) - 1).to(torch.int32)[None, None],
            BLOCK_SIZE=BLOCK,
            mask_mod=self._mask_mod(first, last),
            seq_lengths=(count, total),
        )

    def _mask_mod(self, first: Tensor, last: Tensor) -> Callable[..., Tensor]:
        visible = None if self.visible is None else self.visible.flatten()
        if self.documents is not None:
            own = self.documents[self.slots.row, self.slots.position]
            return _of_document(first, last, visible, own, self.documents.flatten())
        return _stretches(first, last) if visible is None else _seen(first, last, visible)


def _flex(queries: Tensor, keys: Tensor, values: Tensor, mask: "BlockMask", shared: bool) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    answer = flex_attention(queries, keys, values, block_mask=mask, enable_gqa=shared)
    assert isinstance(answer, Tensor)
    return answer


def _stretches(first: Tensor, last: Tensor) -> Callable[..., Tensor]:
    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[query]) & (key <= last[query])

    return sees


def _seen(first: Tensor, last: Tensor, visible: Tensor) -> Callable[..., Tensor]:
    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[query]) & (key <= last[query]) & visible[key]

    return sees


def _of_document(
    first: Tensor, last: Tensor, visible: Tensor | None, own: Tensor, documents: Tensor
) -> Callable[..., Tensor]:
    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (key >= first[query]) & (key <= last[query]) & (documents[key] == own[query])
        return seen if visible is None else seen & visible[key]

    return sees
