"""Attention: the linear maps around it, what all layers of one block call share, and the reading
itself. Where keys and values are kept is `act.caches.cache`."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from act.layers.dot_product import dot_product
from act.layers.norm import norm
from act.layers.ragged_attention import RaggedAttention
from act.layers.rotary import rotary_angles, rotate
from act.layers.saved_numbers import SavedNumbers
from act.layers.segment_attention import attend_segments, lay_keys, lay_queries, take_back
from act.segments import SegmentLayout, Segments, see_something
from act.slots import Slots
from halting.errors import UsageError


class Attention(nn.Module):
    """Multi-head, or grouped-query (Ainslie et al. 2023), attention through PyTorch's
    scaled_dot_product_attention.

    Args:
        dim: D.
        num_heads: H query heads; D must be divisible by it.
        num_kv_heads: key and value heads; H must be divisible by it.
        qk_norm: queries and keys have the RMS that a learned weight says before they are turned
            (Henry et al. 2020), so that scores stay small whatever the width of the states.
    """

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, qk_norm: bool = False):
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.query_norm = norm("rms", self.head_dim) if qk_norm else None
        self.key_norm = norm("rms", self.head_dim) if qk_norm else None

    def project(
        self, x: Float[Tensor, "A D"], angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "A H Dh"], Float[Tensor, "A Hkv Dh"], Float[Tensor, "A Hkv Dh"]]:
        """Queries, keys and values, turned by their positions' angles where there are any."""
        heads = self.qkv(x).unflatten(1, (self.num_heads + 2 * self.num_kv_heads, self.head_dim))
        queries, keys, values = heads.split(
            (self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1
        )
        if self.query_norm is not None and self.key_norm is not None:
            queries = self.query_norm(queries).to(values.dtype)
            keys = self.key_norm(keys).to(values.dtype)
        if angles is not None:
            queries = rotate(queries, angles)
            keys = rotate(keys, angles)
        return queries, keys, values

    def merge(self, attended: Float[Tensor, "A H Dh"]) -> Float[Tensor, "A D"]:
        """What the heads have read, as one."""
        return self.out(attended.flatten(1))

    def saved_numbers(self, rotary: bool) -> SavedNumbers:
        """Queries, keys and values, as projected and as turned, and what comes out."""
        keys = self.num_kv_heads * self.head_dim
        width = self.out.in_features
        turned = width + keys if rotary else 0
        normed = 3 * (width + keys) if self.query_norm is not None else 0
        return SavedNumbers(narrow=(width + 2 * keys) + normed + turned + width)


@dataclass(frozen=True)
class AttentionContext:
    """What all layers of one block call share.

    Args:
        angles: rotary cos and sin of the slots, or None without rotary positions.
        mask: [B 1 Q S] bool, True where a query may look; None where it may look everywhere, or
            `is_causal` says all.
        is_causal: queries and keys are the same full rectangle and the mask is the triangle.
        ragged: what packed queries read, without a rectangle; None where attention works on the
            padded layout.
        segments: how packed queries are laid out where attention is cut at the bounds of documents;
            None where it is not.
    """

    angles: tuple[Tensor, Tensor] | None
    mask: Tensor | None
    is_causal: bool
    ragged: RaggedAttention | None = None
    segments: SegmentLayout | None = None

    @staticmethod
    def of(
        x: Float[Tensor, "A D"],
        slots: Slots,
        visible: Bool[Tensor, "B S"] | None,
        causal: bool,
        rotary_dim: int | None,
        base: float,
        ragged: bool = False,
        segments: Segments | None = None,
    ) -> "AttentionContext":
        """Worked out once a call from the slots and what the cache shows; `rotary_dim` is Dh, or
        None for no rotary; `ragged` where packed queries should stay packed, on devices that can;
        `segments` where tokens see those of their own document alone.

        Raises:
            UsageError: for document numbers of another length than the cache.
        """
        angles = (
            None if rotary_dim is None else rotary_angles(slots.position, rotary_dim, base, x.dtype)
        )
        capacity = slots.length if visible is None else visible.shape[1]
        _check_documents(segments, capacity)
        looks = x.device.type in Segments.devices
        if segments is not None and looks and segments.one_a_row:
            segments = None
        documents = None if segments is None else segments.documents
        if (
            ragged
            and x.device.type in RaggedAttention.devices
            and slots.computes is None
            and 0 < len(slots) < slots.batch * slots.length
        ):
            kernel = RaggedAttention(slots, visible, causal, capacity, documents)
            return AttentionContext(angles, None, False, kernel)
        same_rectangle = slots.full and capacity == slots.length
        if visible is None and segments is None and (not causal or same_rectangle):
            return AttentionContext(angles, None, causal)
        if segments is not None and looks and len(slots) and capacity == slots.length:
            laid = _cut(segments, slots, visible, causal)
            if laid is not None:
                return AttentionContext(angles, None, False, segments=laid)
        if segments is not None and visible is None and same_rectangle:
            return AttentionContext(angles, segments.mask(causal), False)
        layout = slots.layout
        mask = (
            x.new_ones(slots.batch, 1, 1, capacity, dtype=torch.bool)
            if visible is None
            else visible[:, None, None]
        )  # [B 1 1 S]
        if causal:
            reach = layout.pad(slots.position)  # [B Q]
            mask = mask & (torch.arange(capacity, device=x.device) <= reach[:, None, :, None])
        if documents is not None:
            own = layout.pad(documents[slots.row, slots.position])  # [B Q]
            mask = mask & (documents[:, None, None] == own[:, None, :, None])
        mask = mask.expand(slots.batch, 1, layout.width, capacity)
        return AttentionContext(angles, see_something(mask), False)

    def mask_of_each(self, slots: Slots, capacity: int) -> Bool[Tensor, "A 1 1 S"] | None:
        """What each packed query sees of a row of its own; None where it sees everything."""
        if self.ragged is not None:
            return see_something(self.ragged.sees()[:, None, None])
        if self.mask is not None:
            # [B 1 Q S] to [A 1 1 S]
            return slots.layout.unpad(self.mask.transpose(1, 2)).unsqueeze(1)
        if not self.is_causal:
            return None
        columns = torch.arange(capacity, device=slots.position.device)
        return (columns <= slots.position.unsqueeze(-1))[:, None, None]


def _cut(
    segments: Segments, slots: Slots, visible: Tensor | None, causal: bool
) -> SegmentLayout | None:
    """How these queries are laid out document by document, over keys [B L]; None where a mask is
    cheaper."""
    if slots.common_step is None:
        return None  # each then reads keys of its own
    if slots.full and visible is None:
        return segments.whole(causal)
    places = slots.row * slots.length + slots.position
    return segments.layout(places, slots.layout.width, visible, causal)


def _check_documents(segments: Segments | None, capacity: int) -> None:
    if segments is None:
        return
    documents = segments.documents
    if documents.shape[1] != capacity:
        raise UsageError(
            f"context.documents has {documents.shape[1]} positions, and the keys have {capacity}.",
            "Each position that the cache has room for belongs to a document.",
            f"Pass document numbers of shape ({documents.shape[0]}, {capacity}).",
        )


def attend(
    queries: Float[Tensor, "B Q H Dh"],
    keys: Float[Tensor, "B S Hkv Dh"],
    values: Float[Tensor, "B S Hkv Dh"],
    context: AttentionContext,
) -> Float[Tensor, "B Q H Dh"]:
    """What the queries of a rectangle read from the rows of their sequences."""
    return dot_product(queries, keys, values, context.mask, context.is_causal)


def attend_packed(
    queries: Float[Tensor, "A H Dh"],
    keys: Float[Tensor, "B S Hkv Dh"],
    values: Float[Tensor, "B S Hkv Dh"],
    slots: Slots,
    context: AttentionContext,
) -> Float[Tensor, "A H Dh"]:
    """What packed queries read from the rows of their sequences, whichever way the context says."""
    if context.ragged is not None:
        return context.ragged(queries, keys, values)
    if context.segments is None:
        layout = slots.layout
        return layout.unpad(attend(layout.pad(queries), keys, values, context))
    laid = context.segments
    made = attend_segments(
        lay_queries(queries, laid),
        lay_keys(keys.flatten(0, 1), laid),
        lay_keys(values.flatten(0, 1), laid),
        laid,
    )
    return take_back(made, laid)
