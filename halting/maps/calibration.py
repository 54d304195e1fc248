"""How well a number foretells a right answer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halting.maps.estimate import Estimate, ratio
from halting.maps.grouping import grouped
from halting.maps.ponder_map import PonderMap


@dataclass(frozen=True)
class Bin:
    """One of ten groups of about equal size.

    Args:
        score: the mean of the number.
        right: the share of right answers.
        entries: how many answers.
    """

    score: float
    right: Estimate
    entries: int


@dataclass(frozen=True)
class Calibration:
    """A number against being right.

    Args:
        over: what the entries are.
        bins: ascending.
        auroc: the chance that a right answer has the higher number, ties counted half (0.5: it
            tells nothing); None where all are right, or all wrong.
        error: the expected calibration error (Naeini et al. 2015; here over groups of equal size),
            Σ share of bin · |mean − share right|; None where the number is no probability of being
            right.
    """

    over: str
    bins: list[Bin]
    auroc: float | None
    error: float | None = None


def of_score(found: PonderMap) -> Calibration | None:
    """The rule's own number against being right, had the token stopped there: over every executed
    step at which something was read. None without a lens or targets."""
    if found.predictions is None or found.targets is None:
        return None
    known = np.isfinite(found.score) & (found.predictions >= 0) & found.has_target[..., None]
    right = found.predictions == found.targets[..., None]
    return _calibration("executed steps, right had it stopped there", found.score, right, known)


def of_confidence(found: PonderMap) -> Calibration | None:
    """The probability of the answer at the step at which the token left, against being right. None
    without a lens or targets."""
    if found.confidence is None or found.targets is None:
        return None
    last = np.maximum(found.steps.astype(int) - 1, 0)[..., None]
    sure = (
        np.take_along_axis(found.confidence, last, -1)
        if found.max_steps
        else found.confidence[..., :1]
    )
    known = np.isfinite(sure) & (found.has_target & (found.steps > 0))[..., None]
    return _calibration("answers given", sure, found.correct[..., None], known, probability=True)


def _calibration(
    over: str,
    score: NDArray[np.floating],
    right: NDArray[np.bool_],
    known: NDArray[np.bool_],
    probability: bool = False,
) -> Calibration | None:
    """Of entries [B L n]."""
    rows = np.nonzero(known)[0]
    values = score[known].astype(np.float64)
    hits = right[known]
    if not values.size:
        return None
    bins = []
    groups = grouped(values, most=10)
    for number in np.unique(groups):
        mine = groups == number
        per_row = [np.bincount(rows[mine], weights, len(score)) for weights in (hits[mine], None)]
        bins.append(Bin(float(values[mine].mean()), ratio(*per_row), int(mine.sum())))
    error = (
        sum(each.entries * abs(each.score - (each.right.value or 0.0)) for each in bins)
        / values.size
    )
    return Calibration(over, bins, _auroc(values, hits), float(error) if probability else None)


def _auroc(values: NDArray[np.float64], hits: NDArray[np.bool_]) -> float | None:
    """The area under the ROC curve, by ranks (Mann and Whitney 1947)."""
    num_right = int(hits.sum())
    num_wrong = int((~hits).sum())
    if not num_right or not num_wrong:
        return None
    from scipy import stats  # here, because it is slow to import

    ranks = stats.rankdata(values)
    return float((ranks[hits].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))
