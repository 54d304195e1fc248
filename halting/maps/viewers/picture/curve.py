"""The curve of the picture: mean steps over the whole map."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name
from halting.maps.viewers.colours import colour_at
from halting.maps.viewers.picture.counts import draw_counts
from halting.maps.viewers.picture.panels import plain_axes, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 24


def draw_mean_steps(at: "Axes", ponder_map: PonderMap) -> None:
    """Mean steps over the whole map, by difficulty where it is known and by position otherwise."""
    from matplotlib.ticker import MaxNLocator

    if groups := ponder_map.steps_by_difficulty():
        x = np.array([group.difficulty for group in groups])
        mean = np.array([group.steps for group in groups])
        spread = np.array([group.spread for group in groups])
        counts = np.array([group.tokens for group in groups])
        axis = difficulty_name(ponder_map)
        title = "Steps against difficulty"
    else:
        x, mean, spread, counts = _steps_by_position(ponder_map)
        axis = "position"
        title = "Mean steps by position"
    high = np.minimum(mean + spread, ponder_map.max_steps)
    at.fill_between(x, mean - spread, high, color=colour_at(0.35), alpha=0.45, linewidth=0)
    at.plot(
        x,
        mean,
        color=colour_at(0.75),
        linewidth=2,
        marker="o",
        markersize=5,
        clip_on=False,
        zorder=3,
    )
    if (spearman := ponder_map.spearman()) is not None:
        title += f", Spearman {spearman:.2f}"
    set_title(at, title)
    at.set_ylabel("mean steps  (band: ± one deviation)")
    at.set_ylim(0, ponder_map.max_steps)
    at.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if len(x) == 1:
        at.set_xticks(x, [f"{x[0]:.4g}"])
    else:
        at.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=bool(np.all(x == np.round(x)))))
    plain_axes(at, "y")
    told = draw_counts(at, x.tolist(), mean.tolist(), counts.tolist())
    at.set_xlabel(f"{axis}, all sequences\n{told}")


def _steps_by_position(ponder_map: PonderMap) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Position, mean and deviation of the steps, and number of tokens; neighbouring positions are
    put together where there are many."""
    rows, positions = np.nonzero(ponder_map.valid)
    steps = ponder_map.steps[rows, positions].astype(np.float64)
    together = -(-ponder_map.valid.shape[1] // _MOST_POINTS)
    groups = [positions // together == number for number in np.unique(positions // together)]
    return (
        np.array([positions[group].mean() for group in groups]),
        np.array([steps[group].mean() for group in groups]),
        np.array([steps[group].std() for group in groups]),
        np.array([len(steps[group]) for group in groups]),
    )
