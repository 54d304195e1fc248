"""The halting unit: an affine map of a token's state, computed in float32 or wider whatever the
model runs in."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from halting.mass import halting_dtype


class Gate(nn.Module):
    """G logits a token: w·s + b, with weights zero at the start, so that every token starts at the
    bias alone.

    State and weights are widened to float32 before the product and autocast is off around it (law
    5): in bf16, about one token in a hundred halts at another step.

    Args:
        dim: D, width of the state.
        bias_init: the starting logit.
        num_logits: G.
    """

    def __init__(self, dim: int, bias_init: float, num_logits: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_logits, dim))
        self.bias = nn.Parameter(torch.full((num_logits,), float(bias_init)))

    def forward(self, state: Float[Tensor, "A D"]) -> Float[Tensor, "A G"]:
        wide = halting_dtype(torch.promote_types(state.dtype, self.weight.dtype))
        with torch.autocast(device_type=state.device.type, enabled=False):
            return F.linear(state.to(wide), self.weight.to(wide), self.bias.to(wide))


def unit_rms(state: Float[Tensor, "A D"]) -> Float[Tensor, "A D"]:
    """s / √(mean s² + 1e-6), in float32 or wider: a state of whatever size, as a gate reads it."""
    wide = state.to(halting_dtype(state.dtype))
    return F.rms_norm(wide, wide.shape[-1:], eps=1e-6)
