"""What tells the block which step it is on."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sinusoidal_step_signal(
    step: Int[Tensor, " A"], dim: int, dtype: torch.dtype
) -> Float[Tensor, "A D"]:
    """sin and cos of the step at geometric wavelengths from 2π to 10,000·2π (Dehghani et al. 2018,
    eq. 7, step part).

    Sinusoidal rather than learned: an embedding with N rows forbids more steps than it was trained
    with.
    """
    wide = torch.promote_types(torch.float32, dtype)
    half = dim // 2
    rates = torch.exp(
        torch.arange(half, device=step.device, dtype=wide)
        * (-math.log(10_000.0) / max(half - 1, 1))
    )
    angle = step.to(wide).unsqueeze(-1) * rates
    signal = torch.cat((angle.sin(), angle.cos()), dim=-1)
    return torch.nn.functional.pad(signal, (0, dim - 2 * half)).to(dtype)
