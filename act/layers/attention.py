"""Attention: the linear maps around it, what all layers of one block call share, and the reading
itself. Where keys and values are kept is `act.caches.cache`."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from act.layers.norm import norm
from act.layers.ragged_attention import RaggedAttention
from act.layers.rotary import rotary_angles, rotate
from act.layers.saved_numbers import SavedNumbers
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
    """

    angles: tuple[Tensor, Tensor] | None
    mask: Tensor | None
    is_causal: bool
    ragged: RaggedAttention | None = None

    @staticmethod
    def of(
        x: Float[Tensor, "A D"],
        slots: Slots,
        visible: Bool[Tensor, "B S"] | None,
        causal: bool,
        rotary_dim: int | None,
        base: float,
        ragged: bool = False,
        documents: Int[Tensor, "B S"] | None = None,
    ) -> "AttentionContext":
        """Worked out once a call from the slots and what the cache shows; `rotary_dim` is Dh, or
        None for no rotary; `ragged` where packed queries should stay packed, on devices that can;
        `documents` where tokens see those of their own document alone.

        Raises:
            UsageError: for document numbers of another length than the cache.
        """
        angles = (
            None if rotary_dim is None else rotary_angles(slots.position, rotary_dim, base, x.dtype)
        )
        capacity = slots.length if visible is None else visible.shape[1]
        _check_documents(documents, capacity)
        if (
            ragged
            and x.device.type in RaggedAttention.devices
            and slots.computes is None
            and 0 < len(slots) < slots.batch * slots.length
        ):
            kernel = RaggedAttention(slots, visible, causal, capacity, documents)
            return AttentionContext(angles, None, False, kernel)
        same_rectangle = slots.full and capacity == slots.length
        if visible is None and documents is None and (not causal or same_rectangle):
            return AttentionContext(angles, None, causal)
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
        return AttentionContext(angles, _or_everything(mask), False)

    def mask_of_each(self, slots: Slots, capacity: int) -> Bool[Tensor, "A 1 1 S"] | None:
        """What each packed query sees of a row of its own; None where it sees everything."""
        if self.ragged is not None:
            return _or_everything(self.ragged.sees()[:, None, None])
        if self.mask is not None:
            # [B 1 Q S] to [A 1 1 S]
            return slots.layout.unpad(self.mask.transpose(1, 2)).unsqueeze(1)
        if not self.is_causal:
            return None
        columns = torch.arange(capacity, device=slots.position.device)
        return (columns <= slots.position.unsqueeze(-1))[:, None, None]


def _or_everything(mask: Bool[Tensor, "*queries S"]) -> Bool[Tensor, "*queries S"]:
    """A query that sees nothing (a column of padding, an idle slot) would divide by zero: it sees
    everything, which is finite, and what it says is dropped."""
    return mask | ~mask.any(-1, keepdim=True)


def _check_documents(documents: Tensor | None, capacity: int) -> None:
    if documents is not None and documents.shape[1] != capacity:
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
    """What the queries of a rectangle read from the rows of their sequences: PyTorch's
    scaled_dot_product_attention."""
    return F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=context.mask,
        is_causal=context.is_causal,
        enable_gqa=keys.shape[2] != queries.shape[2],
    ).transpose(1, 2)
