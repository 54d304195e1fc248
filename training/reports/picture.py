"""Accuracy against compute and against time, a line an exit: the picture of `ponder report`."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from halting.maps.viewers.picture.canvas import MARGIN, ROOM, WIDTH, Canvas, paint
from halting.maps.viewers.picture.panels import INK
from training.console.amounts import short_number

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d1f", "#6a51a3")
"""Of Okabe and Ito, which people with any colour blindness can tell apart; markers differ too."""
_MARKERS = ("s", "^", "D", "v", "P", "X", "<")
_LEARNED, _CONTROL = "#d55e00", "#8a9097"
_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)
_TALL = 3.9
_TOP = 1.9
_LEGEND = 1.15


@dataclass(frozen=True)
class Line:
    """A kind of exit.

    Args:
        name: for the legend.
        compute: [K] FLOPs a token.
        micros: [K] measured microseconds a token; none for what was not run.
        accuracy, low, high: [K] of 1.
        usable: whether it could take the learned rule's place; a control or a bound otherwise.
    """

    name: str
    compute: Sequence[float]
    micros: Sequence[float]
    accuracy: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    usable: bool


def save_report_picture(
    path: Path,
    lines: Sequence[Line],
    trained: Line,
    sentence: str,
    about: Sequence[str],
    smallest: float,
) -> None:
    """Writes a PNG with two panels.

    Args:
        path: of the file.
        lines: the kinds of exits.
        trained: the learned rule as it was trained, one point.
        sentence: the verdict, for the heading.
        about: what the picture is of.
        smallest: the share of wrong answers that one wrong answer is: what is shown for none.
    """
    paint(path, lambda figure: _draw(figure, lines, trained, sentence, list(about), smallest))


def _draw(
    figure: "Figure",
    lines: Sequence[Line],
    trained: Line,
    sentence: str,
    about: list[str],
    smallest: float,
) -> None:
    height = _TOP + _TALL + 0.65 + _LEGEND
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    canvas.write_heading("What learned halting gets for its compute", about)
    for number, text in enumerate(textwrap.wrap(sentence, 128)):
        canvas.write(MARGIN, 1.12 + 0.22 * number, text, size=10.5, color=INK)
    width = (ROOM - 0.55) / 2
    shown = [*lines, trained]
    lowest = min(min(line.accuracy) for line in shown)
    highest = max(max(line.high) for line in shown)
    for number, (axis, says) in enumerate(
        (("compute", "executed FLOPs a token"), ("micros", "measured µs a token"))
    ):
        at = canvas.axes(MARGIN + 0.15 + number * (width + 0.55), _TOP, width - 0.15, _TALL)
        _panel(at, lines, trained, axis, smallest)
        _accuracy_axis(at, lowest, highest, smallest, labelled=number == 0)
        at.set_xlabel(says)
        if axis == "compute":
            at.xaxis.set_major_formatter(lambda value, _: short_number(value))
            handles, names = at.get_legend_handles_labels()
            figure.legend(
                handles,
                names,
                loc="upper left",
                bbox_to_anchor=(MARGIN / WIDTH, 1 - (_TOP + _TALL + 0.6) / height),
                ncols=4,
                frameon=False,
                fontsize=9.5,
            )


def _panel(at: "Axes", lines: Sequence[Line], trained: Line, axis: str, smallest: float) -> None:
    own = iter(zip(_PALETTE, _MARKERS, strict=True))
    for line in lines:
        if line.name == trained.name:
            colour = _LEARNED
            marker = "o"
            style = "-"
        elif line.usable:
            (colour, marker), style = next(own), "-"
        else:
            colour = _CONTROL
            marker = "*" if len(line.compute) == 1 else "."
            style = ":"
        amounts = getattr(line, axis)
        if len(amounts) < len(line.accuracy):  # it was not run
            continue
        at.errorbar(
            amounts,
            _scaled(line.accuracy, smallest),
            yerr=_bars(line, smallest),
            color=colour,
            marker=marker,
            linestyle=style,
            markersize=9 if marker == "*" else 4.5,
            linewidth=1.5,
            elinewidth=0.7,
            zorder=3 if len(line.compute) > 1 else 6,
            label=line.name
            + ("" if line.usable else " (no rule can)" if line.name == "oracle" else " (control)"),
        )
    at.plot(
        getattr(trained, axis),
        _scaled(trained.accuracy, smallest),
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=_LEARNED,
        markeredgewidth=2,
        label="as it was trained",
        zorder=5,
    )
    at.set_xlim(left=0)
    at.grid(color="#e8eaec", linewidth=0.8)
    at.set_axisbelow(True)
    for side in ("top", "right"):
        at.spines[side].set_visible(False)


def _accuracy_axis(
    at: "Axes", lowest: float, highest: float, smallest: float, labelled: bool
) -> None:
    bottom, top = _scaled([lowest, highest], smallest)
    at.set_ylim(bottom - 0.06 * (top - bottom) - 0.02, top + 0.06 * (top - bottom) + 0.02)
    inside = [tick for tick in _TICKS if 1 - tick > 1.5 * smallest]
    ticks = dict(
        zip(
            _scaled([*inside, 1.0], smallest),
            [*(f"{100 * tick:g} %" for tick in inside), "all"],
            strict=True,
        )
    )
    shown = {
        place: name
        for place, name in ticks.items()
        if at.get_ylim()[0] <= place <= at.get_ylim()[1]
    }
    at.set_yticks(list(shown), list(shown.values()) if labelled else [""] * len(shown))
    if labelled:
        at.set_ylabel("right answers")


def _scaled(accuracy: Sequence[float], smallest: float) -> np.ndarray:
    """Powers of ten of the share that is wrong, fewer further up; none wrong is shown as half an
    answer."""
    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=float), smallest / 2))


def _bars(line: Line, smallest: float) -> np.ndarray:
    middle = _scaled(line.accuracy, smallest)
    return np.stack(
        [middle - _scaled(line.low, smallest), _scaled(line.high, smallest) - middle]
    ).clip(min=0)
