"""A figure with its interval: a ratio of sums over sequences, bootstrapped over sequences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure, and between what limits it lies with 95 % confidence.

    Args:
        value: the figure; None where there is nothing to average.
        low, high: the limits; None where fewer than two sequences contribute.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __format__(self, form: str) -> str:
        """ "2.47 [2.31, 2.63]", each number in the given form; "–" where there is none."""
        if self.value is None:
            return "–"
        limits = (
            ""
            if self.low is None or self.high is None
            else f" [{self.low:{form}}, {self.high:{form}}]"
        )
        return f"{self.value:{form}}{limits}"


def ratio(above: NDArray[Any], below: NDArray[Any]) -> Estimate:
    """Σ above / Σ below, with its percentile interval (Efron 1979) over resampled sequences.

    The tokens of a sequence depend on one another, so whole sequences are drawn, of those that have
    any. The draws are the same each time.

    Args:
        above: [B] a sum for each sequence.
        below: [B] what it is divided by; 0 for a sequence that has nothing to say.
    """
    has = below > 0
    above = above[has].astype(np.float64)
    below = below[has].astype(np.float64)
    if below.size == 0:
        return Estimate(None)
    value = float(above.sum() / below.sum())
    if below.size < 2:
        return Estimate(value)
    from scipy import stats  # here, because it is slow to import

    found = stats.bootstrap(
        (above, below),
        lambda above, below, axis: above.sum(axis) / below.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high))


def share_of(
    chosen: NDArray[np.bool_], among: NDArray[np.bool_], weight: NDArray | None = None
) -> Estimate:
    """The share of tokens [B L] among others, each weighing 1 or `weight`."""
    weights = np.ones(among.shape) if weight is None else weight
    return ratio((weights * (chosen & among)).sum(1), (weights * among).sum(1))


def mean_of(values: NDArray, among: NDArray[np.bool_]) -> Estimate:
    """The mean of values [B L] over some tokens."""
    return ratio(np.where(among, values, 0).sum(1), among.sum(1))
