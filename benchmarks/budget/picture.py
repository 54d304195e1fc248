"""How targets for the mean ponder were held, and where their runs lie against a sweep, as a
picture."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.legend import legend_below
from halting.maps.viewers.picture.canvas import MARGIN, WIDTH, Canvas, paint
from halting.maps.viewers.picture.panels import FAINT, plain_axes, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TOP = 1.55
_PANEL = 2.5
_WIDE = 3.0
_NEXT = 3.75
_BELOW = 3.6
_COLOURS = {"25%": "#0072b2", "50%": "#e69f00", "75%": "#009e73"}
_MARKERS = {"25%": "o", "50%": "s", "75%": "^"}
_SWEEP = "#8a8f96"
_HELD = 0.05  # what is asked of the last quarter

Row = Mapping[str, Any]
Front = tuple[Sequence[float], Sequence[float]]


def draw(rows: Sequence[Row], fronts: Mapping[str, Front], path: Path) -> None:
    """Writes a PNG: for each task the ponder of its runs over training, and below it their accuracy
    against the sweep.

    Args:
        rows: of `benchmarks.budget`.
        fronts: by task, ponder and accuracy of the sweep's points that no other beats.
        path: where to.
    """
    paint(path, partial(_draw, rows=[row for row in rows if "failed" not in row], fronts=fronts))


def _draw(figure: "Figure", rows: Sequence[Row], fronts: Mapping[str, Front]) -> None:
    height = _TOP + _BELOW + _PANEL + 1.1
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    canvas.write_heading(
        "A budget of steps", ["penalty steered to a target", "python -m benchmarks.budget"]
    )
    seeds = len({row["seed"] for row in rows})
    canvas.write(
        MARGIN,
        1.03,
        f"{seeds} seeds each; bands: ±5 % of a target, over the last quarter of training",
        color=FAINT,
    )
    for place, task in enumerate(fronts):
        own = [row for row in rows if row["task"] == task]
        left = MARGIN + place * _NEXT
        _paths(canvas.axes(left, _TOP, _WIDE, _PANEL), own, task, first=place == 0)
        _points(
            canvas.axes(left, _TOP + _BELOW, _WIDE, _PANEL), own, fronts[task], first=place == 0
        )


def _share(row: Row) -> str:
    return row["name"].rsplit(" ", 1)[-1]


def _paths(at: "Axes", rows: Sequence[Row], task: str, first: bool) -> None:
    set_title(at, task)
    free = [row for row in rows if row["name"].endswith(", penalty 0")]
    last = max(row["path"][-1][0] for row in rows)
    for number, row in enumerate(free):
        at.plot(
            *_over_updates(row), color=_SWEEP, linewidth=1.0, label=None if number else "penalty 0"
        )
    for row in (row for row in rows if row["target"] is not None):
        colour = _COLOURS[_share(row)]
        target = row["target"]
        at.fill_between(
            [0.75 * last, last],
            target * (1 - _HELD),
            target * (1 + _HELD),
            color=colour,
            alpha=0.22,
            lw=0,
        )
        at.plot(*_over_updates(row), color=colour, linewidth=1.4)
    at.set_ylim(0, None)
    at.set_xlim(0, last)
    at.set_xlabel("update")
    if first:
        at.set_ylabel("ponder, steps")
        legend_below(at, -0.02)
    plain_axes(at, "y")


def _over_updates(row: Row) -> tuple[list[float], list[float]]:
    updates, _, ponder, _ = zip(*row["path"], strict=True)
    return list(updates), list(ponder)


def _points(at: "Axes", rows: Sequence[Row], front: Front, first: bool) -> None:
    swept = [row for row in rows if ", penalty " in row["name"]]
    ponder, accuracy = front
    at.plot(
        ponder,
        [100 * each for each in accuracy],
        color=_SWEEP,
        linewidth=1.2,
        label="front of the sweep's means",
    )
    at.plot(*_of_test(swept), "x", color=_SWEEP, markersize=5, label="constant penalty")
    for share, colour in _COLOURS.items():
        own = [row for row in rows if row["target"] is not None and _share(row) == share]
        at.plot(
            *_of_test(own),
            _MARKERS[share],
            color=colour,
            markersize=5,
            label=f"target at {share[:-1]} %",
        )
    at.set_xlabel("ponder, steps")
    at.set_xlim(0.8, None)
    if first:
        at.set_ylabel("tokens right, %")
        legend_below(at, -0.02, columns=5)
    plain_axes(at, "both")


def _of_test(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["ponder"] for row in rows], [100 * row["accuracy"] for row in rows]
