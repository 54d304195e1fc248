"""Attention: the linear maps around it, what all layers of one block call share, and the reading
itself. Where keys and values are kept is `act.caches.cache`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from act.layers.ragged_attention import RaggedAttention
from act.layers.rotary import rotary_angles, rotate
from act.slots import Slots


class Attention(nn.Module):
    """Multi-head, or grouped-query (Ainslie et al. 2023), attention through PyTorch's
    scaled_dot_product_attention.

    Args:
        dim: D.
        num_heads: H query heads; D must be divisible by it.
        num_kv_heads: key and value heads; H must be divisible by it.
    """

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def project(
        self, x: Float[Tensor, "A D"], angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "A H Dh"], Float[Tensor, "A Hkv Dh"], Float[Tensor, "A Hkv Dh"]]:
        """Queries, keys and values, turned by their positions' angles where there are any."""
        heads = self.qkv(x).unflatten(1, (self.num_heads + 2 * self.num_kv_heads, self.head_dim))
        queries, keys, values = heads.split(
            (self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=1
        )
        if angles is not None:
            queries = rotate(queries, angles)
            keys = rotate(keys, angles)
        return queries, keys, values

    def merge(self, attended: Float[Tensor, "A H Dh"]) -> Float[Tensor, "A D"]:
        """What the heads have read, as one."""
        return self.out(attended.flatten(1))


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
        x: Tensor,
        slots: Slots,
        visible: Tensor | None,
        causal: bool,
        rotary_dim: int | None,
        base: float,
        ragged: bool = False,
    ) -> "AttentionContext":
        """Worked out once a call from the slots and what the cache shows; `rotary_dim` is Dh, or
        None for no rotary; `ragged` where packed queries should stay packed, on devices that
        can."""
        angles = (
            None if rotary_dim is None else rotary_angles(slots.position, rotary_dim, base, x.dtype)
        )
        if (
            ragged
            and x.device.type in RaggedAttention.devices
            and slots.computes is None
            and 0 < len(slots) < slots.batch * slots.length
        ):
            capacity = slots.length if visible is None else visible.shape[1]
            return AttentionContext(
                angles, None, False, RaggedAttention(slots, visible, causal, capacity)
            )
        same_rectangle = slots.full and (visible is None or visible.shape[1] == slots.length)
        if visible is None and (not causal or same_rectangle):
            return AttentionContext(angles, None, causal)
        layout = slots.layout
        capacity = slots.length if visible is None else visible.shape[1]
        mask = (
            x.new_ones(slots.batch, 1, 1, capacity, dtype=torch.bool)
            if visible is None
            else visible[:, None, None]
        )
        if causal:
            reach = layout.pad(slots.position)
            mask = mask & (torch.arange(capacity, device=x.device) <= reach[:, None, :, None])
        mask = mask.expand(slots.batch, 1, layout.width, capacity)
        # A query that sees nothing (a column of padding, an idle slot) would divide by zero: let it
        # see everything, which is finite, and drop what it says.
        return AttentionContext(angles, mask | ~mask.any(-1, keepdim=True), False)


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
