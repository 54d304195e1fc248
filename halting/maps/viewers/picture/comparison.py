"""Ponder maps of the same examples as one picture: a sequence as each saw it, and where they differ
over all."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from halting.errors import UsageError
from halting.maps.comparison import Comparison, compare
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name, facts, percent
from halting.maps.viewers.colours import WRONG, colour_at
from halting.maps.viewers.picture.canvas import MARGIN, ROOM, WIDTH, Canvas, paint
from halting.maps.viewers.picture.counts import draw_counts
from halting.maps.viewers.picture.panels import FAINT, plain_axes, set_title
from halting.maps.viewers.picture.strip import draw_strip, strip_layout
from halting.maps.viewers.terminal.comparison import LETTERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TOP = 1.05
_OVER_STRIP = 0.34
_UNDER_STRIP = 0.22
_PANEL = 2.7
_WIDE = 2.75
_NEXT = 3.85
_UNDER_PANEL = 1.25
_MOST_TOKENS = 112
_MOST_MAPS = 6
# Okabe and Ito's palette, each colour with a marker of its own; vermilion is kept for wrong
# answers.
_LINES = (
    ("#0072b2", "o"),
    ("#e69f00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
    ("#56b4e9", "v"),
    ("#000000", "x"),
)


def save_comparison_picture(maps: Sequence[PonderMap], path: str | Path, sequence: int = 0) -> None:
    """Writes a PNG of one sequence (its first 112 tokens) in each of the maps, and of how they
    differ.

    Args:
        maps: two to six, of the same examples; they are called A, B, C … in this order.
        path: where to.
        sequence: which of them.

    Raises:
        UsageError: for another number of maps, maps of other examples, and a sequence that is not
            there or empty.
    """
    if not 2 <= len(maps) <= _MOST_MAPS:
        raise UsageError(
            f"{len(maps)} maps are to be drawn.",
            f"The picture has room for 2 to {_MOST_MAPS}.",
            "Name fewer or more.",
        )
    found = [compare(maps[0], other) for other in maps[1:]]
    shown = [each.sequence(sequence) for each in maps]
    if shown[0].valid.shape[1] == 0:
        raise UsageError(
            f"Sequence {sequence} has no tokens.", "It is padding alone.", "Name another sequence."
        )
    shown = [each.first_tokens(_MOST_TOKENS) for each in shown]
    paint(path, partial(_draw, maps=maps, shown=shown, found=found, row=sequence))


def _draw(
    figure: "Figure",
    maps: Sequence[PonderMap],
    shown: Sequence[PonderMap],
    found: Sequence[Comparison],
    row: int,
) -> None:
    strips = [strip_layout(one, ROOM) for one in shown]
    under = _TOP + 0.1 + sum(strip.height + _OVER_STRIP + _UNDER_STRIP for strip in strips) + 0.45
    panel_rows = 1 + (len(maps) - 2 + 2) // 3
    height = under + panel_rows * (_PANEL + _UNDER_PANEL)
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    tokens = maps[0].sequence(row).valid.shape[1]
    cut = (
        ""
        if shown[0].valid.shape[1] == tokens
        else f", the first {shown[0].valid.shape[1]} of {tokens} tokens"
    )
    canvas.write_heading(
        "The same tokens, thought about twice" if len(maps) == 2 else "The same tokens",
        [f"sequence {row + 1} of {maps[0].num_sequences}{cut}", "outlined: wrong answer"],
    )
    top = _TOP + 0.1
    for letter, whole, one, strip in zip(LETTERS, maps, shown, strips, strict=False):
        line = f"{letter}   {'  ·  '.join(facts(whole))}"
        canvas.write(MARGIN, top + 0.14, line, size=min(10.5, 1250 / len(line)), weight="bold")
        top += _OVER_STRIP
        draw_strip(canvas.axes(MARGIN, top, strip.columns * strip.cell, strip.height), one, strip)
        top += strip.height + _UNDER_STRIP
    places = [
        (MARGIN + column * _NEXT, under + line * (_PANEL + _UNDER_PANEL))
        for line in range(panel_rows)
        for column in range(3)
    ]
    panels = [canvas.axes(left, top, _WIDE, _PANEL) for left, top in places[: 2 + len(found)]]
    _draw_by_difficulty(panels[0], maps)
    _draw_answers(panels[1], found)
    for at, letter, other, each in zip(panels[2:], LETTERS[1:], maps[1:], found, strict=False):
        _draw_joint(at, letter, maps[0], other, each)


def _draw_by_difficulty(at: "Axes", maps: Sequence[PonderMap]) -> None:
    from matplotlib.ticker import MaxNLocator

    rated = bool(maps[0].steps_by_difficulty())
    last: tuple[Sequence[float], Sequence[float], Sequence[int]] = [], [], []
    for letter, each, (colour, marker) in zip(LETTERS, maps, _LINES, strict=False):
        if rated:
            groups = each.steps_by_difficulty()
            x = [group.difficulty for group in groups]
            y = [group.steps for group in groups]
            counts = [group.tokens for group in groups]
        else:
            tokens = each.valid.sum(0)
            known = tokens > 0
            counts = tokens[known].tolist()
            x = np.flatnonzero(known).tolist()
            y = (each.steps.sum(0)[known] / tokens[known]).tolist()
        size = 5 if len(x) <= 24 else 0
        at.plot(x, y, color=colour, marker=marker, markersize=size, linewidth=1.8, label=letter)
        last = x, y, counts  # of the last map; the tokens are the same in all
    set_title(at, "Steps against difficulty" if rated else "Steps by position")
    at.set_ylabel("mean steps")
    at.set_ylim(0, None)
    at.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    at.legend(
        loc="upper left", bbox_to_anchor=(0, -0.27), frameon=False, ncols=len(maps), borderaxespad=0
    )
    plain_axes(at, "y")
    axis = difficulty_name(maps[0]) if rated else "position"
    at.set_xlabel(f"{axis}\n{draw_counts(at, *last)}")


def _draw_answers(at: "Axes", found: Sequence[Comparison]) -> None:
    """A bar for each other map: the shares of the tokens with a target by who is right."""
    set_title(at, "Who is right")
    if found[0].both.value is None:
        at.text(
            0.5,
            0.5,
            "Nothing was asked, or no answers kept.",
            ha="center",
            color=FAINT,
            transform=at.transAxes,
        )
        at.set_axis_off()
        return
    parts = ("both", "only_first", "only_second", "neither")
    colours, hatches = ("#c9d7e6", _LINES[0][0], _LINES[1][0], WRONG), ("", "", "", "///")
    names = ("both", "A alone", "the other alone", "neither")
    places = np.arange(len(found))[::-1]
    left = np.zeros(len(found))
    for part, colour, hatch, name in zip(parts, colours, hatches, names, strict=True):
        width = np.array([getattr(each, part).value or 0.0 for each in found])
        at.barh(
            places,
            width,
            left=left,
            height=0.5,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=name,
        )
        left += width
    for place, each in zip(places, found, strict=True):
        says = (
            f"A alone {percent(each.only_first.value or 0)}, other alone "
            f"{percent(each.only_second.value or 0)}"
        )
        at.text(0, place + 0.32, says, size=8.5, va="bottom")
    at.set_yticks(places, [f"A and {letter}" for letter in LETTERS[1 : 1 + len(found)]])
    at.set_ylim(-0.6, len(found) - 0.2)
    at.set_xlim(0, 1)
    at.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    at.set_xlabel("tokens with a target")
    at.legend(
        loc="upper left",
        bbox_to_anchor=(-0.1, -0.2),
        frameon=False,
        ncols=4,
        fontsize=8,
        borderaxespad=0,
        columnspacing=0.9,
        handlelength=1.2,
    )
    plain_axes(at, "x")


def _draw_joint(
    at: "Axes", letter: str, first: PonderMap, other: PonderMap, found: Comparison
) -> None:
    """How many tokens took so many steps in one and so many in the other: area as their number."""
    from matplotlib.ticker import MaxNLocator

    pairs, counts = np.unique(
        np.stack([first.steps[first.valid], other.steps[first.valid]]), axis=1, return_counts=True
    )
    most = int(max(first.max_steps, other.max_steps))
    at.plot(
        [0, most + 0.5], [0, most + 0.5], color="#9aa0a6", linewidth=1, linestyle="--", zorder=0
    )
    at.scatter(
        *pairs,
        s=260 * counts / counts.max() + 4,
        color=colour_at(0.6),
        edgecolors="white",
        linewidths=0.6,
    )
    known = "" if found.agreement is None else f", Spearman {found.agreement:.2f}"
    set_title(at, f"Steps in A and in {letter}{known}")
    at.set_xlabel(f"steps in A  ({letter} − A: {found.steps.value:+.2f} on average)")
    at.set_ylabel(f"steps in {letter}")
    at.set(xlim=(0, most + 0.5), ylim=(0, most + 0.5))
    for axis in (at.xaxis, at.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    plain_axes(at, "both")
