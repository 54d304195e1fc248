"""The reading itself."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def dot_product(
    queries: Float[Tensor, "B Q H Dh"],
    keys: Float[Tensor, "B S Hkv Dh"],
    values: Float[Tensor, "B S Hkv Dh"],
    mask: Bool[Tensor, "B #1 Q S"] | None,
    is_causal: bool,
) -> Float[Tensor, "B Q H Dh"]:
    """PyTorch's scaled_dot_product_attention, heads behind positions."""
    return F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=keys.shape[2] != queries.shape[2],
    ).transpose(1, 2)
