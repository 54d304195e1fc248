"""Normalisation of a token's state."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from act.layers.step_signal import sinusoidal_step_signal
from act.slots import Slots

NormKind = Literal["rms", "layer"]
SIGNAL_WIDTH = 32
"""E, numbers that tell a `StepNorm` which step it is."""


class StepNorm(nn.Module):
    """γ_n ⊙ norm(x) + β_n, with γ_n = 1 + G·e_n and β_n = B·e_n for loop step n, where e_n is the
    sinusoidal signal of n (feature-wise modulation: Perez et al. 2017, equation 1; from zero, as
    adaLN-Zero of Peebles & Xie 2022). A loop whose weights are shared can so do another thing at
    each step, at 2·D·E parameters, and at more steps than it was trained with.

    Args:
        kind: of the norm, which keeps a gain of its own.
        dim: D.
    """

    def __init__(self, kind: NormKind, dim: int):
        super().__init__()
        self.dim = dim
        self.norm = norm(kind, dim)
        self.modulation = nn.Parameter(torch.zeros(2 * dim, SIGNAL_WIDTH))

    def forward(self, x: Float[Tensor, "A D"], signal: Tensor) -> Float[Tensor, "A D"]:
        """Normalises tokens.

        Args:
            x: their states.
            signal: [1 E] or [A E], of their steps (`signal_of`).
        """
        gain, shift = (signal @ self.modulation.T).to(x.dtype).chunk(2, -1)
        return self.norm(x) * (1 + gain) + shift


def signal_of(slots: Slots, dtype: torch.dtype) -> Tensor:
    """The signal of the slots' steps: [1 E] where all are at the same, [A E] otherwise."""
    common = slots.common_step
    step = slots.step if common is None else slots.step.new_tensor([common])
    return sinusoidal_step_signal(step, SIGNAL_WIDTH, dtype)


def norm(kind: NormKind, dim: int) -> nn.Module:
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016) over the last dimension,
    PyTorch's own."""
    return nn.RMSNorm(dim, eps=1e-6) if kind == "rms" else nn.LayerNorm(dim)
