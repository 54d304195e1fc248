"""Rank correlation of two whole numbers, from a table of how often each pair occurred."""

import math

import numpy as np
from torch import Tensor


def rank_correlation(joint: Tensor) -> float:
    """Spearman's ρ, ties at their mean rank; NaN when either number does not vary.

    Args:
        joint: [X Y], how often the first number was x and the second y.
    """
    counts = joint.numpy()
    ranks = [_mean_ranks(counts.sum(axis)) for axis in (1, 0)]
    total = counts.sum()
    centred = [
        rank - (counts.sum(axis) * rank).sum() / total
        for rank, axis in zip(ranks, (1, 0), strict=True)
    ]
    covariance = centred[0] @ counts @ centred[1]
    spread = [
        (counts.sum(axis) * centre**2).sum() for centre, axis in zip(centred, (1, 0), strict=True)
    ]
    return float(covariance / math.sqrt(spread[0] * spread[1])) if min(spread) > 0 else math.nan


def _mean_ranks(counts: np.ndarray) -> np.ndarray:
    """The mean rank of each of the tied groups that `counts` gives the sizes of."""
    return counts.cumsum() - (counts - 1) / 2
