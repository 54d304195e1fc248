"""Attention that keeps for its backward the packed rows that it was given instead of the rectangles
that they were laid out to."""

from typing import NamedTuple

import torch
from torch import Tensor

from act.layers.attention import AttentionContext, attend
from act.layers.segment_attention import attend_segments, lay_keys, lay_queries, take_back
from act.segments import SegmentLayout
from act.slots import Slots


class KeptRectangle:
    """Keeps the packed queries and answers instead of the padded rectangles, and the rows instead
    of their copies for each query head.

    Args:
        slots: of the queries.
        inputs: queries [A H Dh], keys and values [B*S Hkv Dh].
    """

    def __init__(self, slots: Slots, inputs: tuple[Tensor, Tensor, Tensor]):
        self.slots = slots
        self.inputs = inputs
        self.packed = {"queries": inputs[0].detach()}
        self.known: dict[int, str] = {}
        self.shape = torch.Size()

    def attend(self, context: AttentionContext) -> Tensor:
        """[A H Dh]"""
        queries, keys, values = self.inputs
        laid = {
            "queries": self.slots.layout.pad(queries),  # [B Q H Dh]
            "keys": self._every_head(keys),  # [B S H Dh]
            "values": self._every_head(values),  # [B S H Dh]
        }
        self.shape = laid["queries"].transpose(1, 2).shape  # [B H Q Dh]
        self.known = {each.untyped_storage().data_ptr(): name for name, each in laid.items()}
        with torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack):
            answer = attend(laid["queries"], laid["keys"], laid["values"], context)
        answer = self.slots.layout.unpad(answer)
        self.packed["answer"] = answer.detach()
        return answer

    def _every_head(self, rows: Tensor) -> Tensor:
        """[B S H Dh] of the rows."""
        rows = rows.view(self.slots.batch, self.slots.length, *rows.shape[1:])
        return for_every_head(rows, self.inputs[0].shape[1])

    def _pack(self, tensor: Tensor) -> Tensor | str:
        """A name for what can be laid out again on the way back; else the tensor."""
        name = self.known.get(tensor.untyped_storage().data_ptr())
        if name == "queries":
            return tensor if self.slots.layout.place is None else name
        if name is not None:
            return tensor if self.inputs[0].shape[1] == self.inputs[1].shape[1] else name
        like_the_mask = self.shape[1] == 1 and self.shape[3] == self.slots.length
        padded = self.slots.layout.place is not None
        is_answer = padded and tensor.shape == self.shape and not like_the_mask
        return "answer" if is_answer else tensor

    def _unpack(self, kept: Tensor | str) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        if kept in self.packed:
            return self.slots.layout.pad(self.packed[kept]).transpose(1, 2)
        return self._every_head(self.inputs[1 if kept == "keys" else 2].detach()).transpose(1, 2)


class _Piece(NamedTuple):
    """A part of what was laid out, by the name of the whole."""

    name: str
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


class KeptSegments:
    """Keeps the packed queries and the rows instead of the rectangles of segments, which are laid
    out again on the way back.

    Args:
        layout: of the segments.
        inputs: queries [A H Dh], keys and values [B*S Hkv Dh].
    """

    def __init__(self, layout: SegmentLayout, inputs: tuple[Tensor, Tensor, Tensor]):
        self.layout = layout
        self.inputs = inputs
        self.known: dict[int, str] = {}
        self.pieces = {"queries": 0, "keys": 0, "values": 0}
        self.again: dict[str, tuple[Tensor, int]] = {}

    def attend(self) -> Tensor:
        """[A H Dh]"""
        laid = [self._laid(name) for name in self.pieces]
        names = zip(laid, self.pieces, strict=True)
        self.known = {each.untyped_storage().data_ptr(): name for each, name in names}
        with torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack):
            made = attend_segments(laid[0], laid[1], laid[2], self.layout)
        return take_back(made, self.layout)

    def _laid(self, name: str) -> Tensor:
        queries, keys, values = self.inputs
        if name == "queries":
            return lay_queries(queries, self.layout)
        rows = keys if name == "keys" else values
        return lay_keys(for_every_head(rows, queries.shape[1]), self.layout)

    def _pack(self, tensor: Tensor) -> Tensor | _Piece:
        name = self.known.get(tensor.untyped_storage().data_ptr())
        if name is None:
            return tensor
        self.pieces[name] += 1
        return _Piece(name, tensor.shape, tensor.stride(), int(tensor.storage_offset()))

    def _unpack(self, kept: Tensor | _Piece) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        # Laid out once for all groups, and let go of by the last.
        laid, left = self.again.pop(kept.name, (None, self.pieces[kept.name]))
        laid = self._laid(kept.name) if laid is None else laid
        if left > 1:
            self.again[kept.name] = (laid, left - 1)
        return laid.as_strided(kept.shape, kept.stride, kept.offset)


def for_every_head(rows: Tensor, heads: int) -> Tensor:
    """[... H Dh] of rows [... Hkv Dh]: each head of keys and values serves as many query heads."""
    sharing = heads // rows.shape[-2]
    return rows if sharing == 1 else rows.repeat_interleave(sharing, dim=-2)
