"""Rotary position embedding (Su et al. 2021)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary_angles(
    position: Int[Tensor, " A"], head_dim: int, base: float, dtype: torch.dtype
) -> tuple[Float[Tensor, "A 1 half"], Float[Tensor, "A 1 half"]]:
    """cos and sin of position · base^(−2i/Dh), one row a token; angles in float32 or wider."""
    wide = torch.promote_types(torch.float32, dtype)
    exponent = torch.arange(0, head_dim, 2, device=position.device, dtype=wide) / head_dim
    angle = position.to(wide).unsqueeze(-1) * base**-exponent
    return angle.cos().to(dtype).unsqueeze(1), angle.sin().to(dtype).unsqueeze(1)


def rotate(
    heads: Float[Tensor, "A H Dh"], angles: tuple[Tensor, Tensor]
) -> Float[Tensor, "A H Dh"]:
    """Each pair (i, i + Dh/2) of a head turned by its angle, so that products of two heads depend
    on distance alone."""
    cos, sin = (angle.to(heads.dtype) for angle in angles)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
