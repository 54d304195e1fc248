"""Ponder time by supporting fact as a picture, the published values beside."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.legend import legend_below
from halting.maps.viewers.colours import colour_at
from halting.maps.viewers.picture.canvas import MARGIN, WIDTH, Canvas, paint
from halting.maps.viewers.picture.panels import FAINT, plain_axes, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TOP = 1.55
_PANEL = 2.9
_WIDE = 2.8
_NEXT = 3.85


def draw(
    rows: Sequence[Mapping[str, Any]], published: Mapping[int, tuple[float, float]], path: Path
) -> None:
    """Writes a PNG of three panels: the paper's tasks, those within a task, and how often the
    answers are right."""
    paint(path, partial(_draw, rows=rows, published=published))


def _draw(
    figure: "Figure",
    rows: Sequence[Mapping[str, Any]],
    published: Mapping[int, tuple[float, float]],
) -> None:
    height = _TOP + _PANEL + 1.1
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    canvas.write_heading("Ponder time by supporting fact", ["bAbI", "python -m benchmarks.babi"])
    canvas.write(
        MARGIN,
        1.03,
        "mean of all positions of test stories; bars: ± one deviation over positions",
        color=FAINT,
    )
    first, second, third = (
        canvas.axes(MARGIN + place * _NEXT, _TOP, _WIDE, _PANEL) for place in range(3)
    )
    mine = [row for row in rows if row["name"] == "paper"]
    other = [row for row in rows if row["name"] != "paper"]
    _ponder(first, mine, "Tasks 1, 2 and 3")
    middle, spread = zip(*published.values(), strict=True)
    first.errorbar(
        [number + 0.16 for number in published],
        middle,
        spread,
        fmt="s--",
        color="#8a8f96",
        capsize=3,
        markersize=4,
        label="the paper, all 20 tasks",
    )
    legend_below(first, -0.05, columns=2)
    _ponder(second, other, "Within tasks 7 and 8 (3: or more)")
    top = max(first.get_ylim()[1], second.get_ylim()[1])
    for at in (first, second):
        at.set_ylim(0, top)
    set_title(third, "Right answers")
    for row in rows:
        style = {
            "color": colour_at(0.75) if row["name"] == "paper" else "#e69f00",
            "linewidth": 1.6,
            "markersize": 4,
        }
        facts = row["by_facts"]
        marker = "o-" if row["name"] == "paper" else "^-"
        label = (
            {"paper": "tasks 1 to 3"}.get(row["name"], "tasks 7 and 8")
            if row["seed"] == 0
            else None
        )
        third.plot(
            [int(number) for number in facts],
            [facts[n]["accuracy"] for n in facts],
            marker,
            label=label,
            **style,
        )
    third.set_ylim(0, 1.03)
    third.set_ylabel("share right")
    legend_below(third, -0.05, columns=2)
    for at in (first, second, third):
        at.set_xticks(sorted(published))
        at.set_xlim(0.6, 3.4)
        at.set_xlabel("supporting facts")
        plain_axes(at, "y")


def _ponder(at: "Axes", rows: Sequence[Mapping[str, Any]], title: str) -> None:
    set_title(at, title)
    at.set_ylabel("ponder, steps")
    for number, row in enumerate(rows):
        facts = row["by_facts"]
        x = [int(each) - 0.08 * number for each in facts]
        at.errorbar(
            x,
            [facts[each]["ponder"] for each in facts],
            [facts[each]["deviation"] for each in facts],
            fmt="o-",
            color=colour_at(0.75 - 0.25 * number),
            capsize=3,
            markersize=4,
            linewidth=1.6,
            label=f"seed {row['seed']}",
        )
