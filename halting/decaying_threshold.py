"""A confidence that a token has to reach, stricter for early positions, whose mistakes the later
ones inherit."""

import math

import torch
from torch import Tensor

from halting.errors import UsageError


def decaying_threshold(
    threshold: float, decay: float | None, length: int | None, position: Tensor, dtype: torch.dtype
) -> Tensor | float:
    """c_t = clip(0.9·c + 0.1·exp(−τ·t / L), 0, 1) at position t (CALM: Schuster et al. 2022, arXiv
    2207.07061, section 3, the decaying threshold); c everywhere without a decay. (For c in (0, 1]
    nothing is ever clipped.)

    Args:
        threshold: c, in (0, 1].
        decay: τ ≥ 0, the paper uses 4; None for the same threshold everywhere.
        length: L, positions of the longest sequence.
        position: [A], counted from 0.
        dtype: of the answer.
    """
    if decay is None or length is None:
        return threshold
    return 0.9 * threshold + 0.1 * torch.exp(-decay * position.to(dtype) / length)


def check_decay(decay: float | None, length: int | None) -> None:
    """Raises UsageError for a decay that rises, and for one without the length that it decays
    over."""
    if decay is None:
        return
    if not 0 <= decay < math.inf:
        raise UsageError(
            f"decay is {decay}.",
            "A threshold that decays cannot rise.",
            "Use 0 or more; the paper has 4.",
        )
    if length is None or length < 1:
        raise UsageError(
            f"decay={decay} comes with decay_length={length}.",
            "The threshold decays over the length of a sequence, which has to be known.",
            "Give decay_length, the number of positions of the longest sequence.",
        )
