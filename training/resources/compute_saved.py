"""What halting saved against a fixed depth, and its picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import percent
from halting.maps.viewers.colours import BLANK, colour_at
from halting.maps.viewers.picture.panels import plain_axes, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class MeasuredCost:
    """One cost, in one unit.

    Args:
        name: what it is ("FLOPs, training").
        own: with the run's own halting.
        fixed: with all tokens at the fixed depth.
        known: how it is told in words ("1.2M of 3.4M a token").
    """

    name: str
    own: float
    fixed: float
    known: str


@dataclass(frozen=True)
class ComputeSaved:
    """Costs measured on the same batch, once halting by itself, once at a fixed depth.

    Args:
        depth: the fixed depth, the step limit.
        measured: the costs.
        how: on what they were measured.
    """

    depth: int
    measured: tuple[MeasuredCost, ...]
    how: str


def draw_saved(at: "Axes", ponder_map: PonderMap, saved: ComputeSaved) -> None:
    """A bar for each cost, as a share of the fixed depth's."""
    steps = ponder_map.mean_steps or 0.0
    depth = saved.depth
    rows = [MeasuredCost("steps", steps, depth, f"{steps:.2f} of {depth}"), *saved.measured]
    set_title(at, f"Compute against {depth} steps for all")
    places = np.arange(len(rows))[::-1].astype(float)
    shares = np.array([row.own / row.fixed if row.fixed else np.nan for row in rows])
    most = max(1.0, float(np.nanmax(shares, initial=0)))
    at.barh(places, np.ones(len(rows)), height=0.52, color=BLANK)
    at.barh(places, shares, height=0.52, color=colour_at(0.62))
    for place, row, share in zip(places, rows, shares.tolist(), strict=True):
        told = (
            "not defined"
            if np.isnan(share)
            else f"saves {percent(1 - share)}"
            if share <= 1
            else _more(share)
        )
        at.text(0, place + 0.3, f"{row.name}: {row.known}", size=8.5, va="bottom")
        at.text(1.02 * max(1.0, share if share == share else 1.0), place, told, size=9, va="center")
    at.set_xlim(0, 1.42 * most)
    # As high as for four rows at least, so that few bars are no thicker.
    at.set_ylim(len(rows) - 1 - max(len(rows), 4) + 0.2, len(rows) - 0.25)
    at.set_yticks([])
    at.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    at.set_xlabel(
        f"share of the fixed depth's\n{saved.how}", size=8.5 if len(saved.how) > 40 else 9.5
    )
    plain_axes(at, "x")


def _more(share: float) -> str:
    return f"costs {percent(share - 1)} more"
