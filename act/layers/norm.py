"""Normalisation of a token's state."""

from typing import Literal

from torch import nn

NormKind = Literal["rms", "layer"]


def norm(kind: NormKind, dim: int) -> nn.Module:
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016) over the last dimension,
    PyTorch's own."""
    return nn.RMSNorm(dim, eps=1e-6) if kind == "rms" else nn.LayerNorm(dim)
