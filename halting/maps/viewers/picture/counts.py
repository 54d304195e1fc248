"""How many tokens stand behind each point of a curve, so that three are not taken for three
thousand."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from halting.maps.viewers.picture.panels import FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 30
"""Fewer tokens than these are a hollow point, where there is no room for numbers."""
_SIZE = 7.0  # points
_DIGIT = 0.64 * _SIZE  # a digit's width
_BETWEEN = 3.0
_UPRIGHT = 1.25 * _SIZE  # the width of a number that is turned


def draw_counts(
    at: "Axes", places: Sequence[float], means: Sequence[float], counts: Sequence[int]
) -> str:
    """Writes the numbers in a row over the curve, upright where they would run into one another;
    the axes have their final limits, and grow by that row.

    Args:
        at: the axes, with the curve in them.
        places: of the points, ascending.
        means: of the points.
        counts: of the points.

    Returns:
        What the axis says of them.
    """
    if len(counts) == 0:
        return ""
    least = min(counts)
    most = max(counts)
    if least == most:
        return f"{_tokens(least)} at each point"
    numbers = [short_count(count) for count in counts]
    width = 72 * at.get_position().width * at.figure.get_size_inches()[0]  # pyright: ignore[reportAttributeAccessIssue]
    left, right = at.get_xlim()
    middles = width * (np.asarray(places, dtype=float) - left) / (right - left)
    gaps = np.diff(middles)
    halves = [_DIGIT * len(number) / 2 for number in numbers]
    needed = [one + other + _BETWEEN for one, other in pairwise(halves)]
    if np.all(gaps >= needed):
        _write(at, places, numbers, upright=False)
        return "above: number of tokens"
    if np.all(gaps >= _UPRIGHT):
        _write(at, places, numbers, upright=True)
        return "above: number of tokens"
    few = [place for place, count in enumerate(counts) if count < FEW]
    chosen = np.asarray(places)[few], np.asarray(means)[few]
    at.plot(
        *chosen,
        linestyle="",
        marker="o",
        markersize=5,
        markerfacecolor="white",
        markeredgecolor=FAINT,
        clip_on=False,
        zorder=4,
    )
    says = f"{short_count(least)} to {_tokens(most)} a point"
    return f"{says}, hollow: fewer than {FEW}" if few else says


def short_count(count: int) -> str:
    """ "3", "3,000", "1,200k"."""
    return f"{count:,}" if count < 100_000 else f"{count / 1000:,.0f}k"


def _tokens(count: int) -> str:
    return f"{short_count(count)} token{'' if count == 1 else 's'}"


def _write(at: "Axes", places: Sequence[float], numbers: Sequence[str], *, upright: bool) -> None:
    tall = 72 * at.get_position().height * at.figure.get_size_inches()[1]  # pyright: ignore[reportAttributeAccessIssue]
    row = (_DIGIT * max(map(len, numbers)) if upright else _SIZE) + 2 * _BETWEEN
    low, high = at.get_ylim()
    ticks = [tick for tick in at.get_yticks() if low <= tick <= high]
    above = high + (high - low) * row / (tall - row)
    at.set_ylim(low, above)
    at.set_yticks(ticks)
    for place, number in zip(places, numbers, strict=True):
        at.text(
            place,
            (high + above) / 2,
            number,
            size=_SIZE,
            color=FAINT,
            ha="center",
            va="center",
            rotation=90 if upright else 0,
        )
