"""The ponder map as one sheet of pictures: the token strip; where the mass went and what was known
when; steps against difficulty, and what its caller knows beyond the map: accuracy against compute,
compute saved."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import facts
from halting.maps.viewers.colours import WRONG
from halting.maps.viewers.picture import panels as panels
from halting.maps.viewers.picture.canvas import MARGIN, ROOM, WIDTH, Canvas, paint
from halting.maps.viewers.picture.strip import Strip, draw_strip, strip_layout

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRIP_TOP = 1.32
_PANEL = 2.75
_UNDER_STRIP = 0.6
_UNDER_PANEL = 0.95
_BOTTOM = 0.85
_WIDE = 40  # beyond so many tokens, the two heat maps lie under each other over the whole width
_SCALE = 0.6  # room for the scale of a heat map, and its numbers
_THIRD = 2.7
_NEXT = 3.9
Panel = Callable[["Axes"], None]
"""Draws one panel into its axes."""


def save_map_picture(
    ponder_map: PonderMap,
    path: str | Path,
    sequence: int = 0,
    *,
    beside: Sequence[Panel] = (),
) -> None:
    """Writes a PNG of one sequence (its first 512 tokens), and of the whole map.

    Args:
        ponder_map: the map.
        path: where to.
        sequence: which of its sequences.
        beside: at most two more panels, drawn beside the mean steps.

    Raises:
        UsageError: no such sequence, or one without tokens.
    """
    one = ponder_map.sequence(sequence)
    if one.valid.shape[1] == 0:
        raise UsageError(
            f"Sequence {sequence} of the ponder map has no tokens.",
            "It is padding alone, so there is nothing to draw.",
            "Name another sequence.",
        )
    paint(path, partial(_draw, ponder_map=ponder_map, one=one, row=sequence, beside=beside))


def _draw(
    figure: "Figure",
    ponder_map: PonderMap,
    one: PonderMap,
    row: int,
    beside: Sequence[Panel],
) -> None:
    strip = strip_layout(one, ROOM)
    top = _STRIP_TOP + strip.height + _UNDER_STRIP
    next_row = _PANEL + _UNDER_PANEL
    wide = strip.tokens > _WIDE
    last_row = top + next_row * (2 if wide else 1)
    height = last_row + _PANEL + _BOTTOM
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    _draw_heading(canvas, ponder_map, one, strip, row)
    draw_strip(
        canvas.axes(MARGIN, _STRIP_TOP, strip.columns * strip.cell, strip.height), one, strip
    )
    half = ROOM / 2 - 0.35
    places = (
        [(MARGIN, top), (MARGIN, top + next_row)]
        if wide
        else [(MARGIN, top), (WIDTH - MARGIN - half, top)]
    )
    heat_width = (ROOM if wide else half) - _SCALE
    for heat, (left, above) in zip(panels.heats(one, strip.tokens), places, strict=True):
        at = canvas.axes(left, above, heat_width, _PANEL)
        if heat.values is None:
            panels.say_nothing(at, heat.title, "No answers were read out, or there is no target.")
            continue
        scale = canvas.axes(left + heat_width + 0.1, above, 0.11, _PANEL)
        panels.draw_heat(at, scale, one, heat.values, heat.title)
    last_places = [
        canvas.axes(MARGIN + place * _NEXT, last_row, _THIRD, _PANEL)
        for place in range(1 + len(beside))
    ]
    panels.draw_mean_steps(last_places[0], ponder_map)
    for draw, at in zip(beside, last_places[1:], strict=True):
        draw(at)


def _draw_heading(
    canvas: Canvas, ponder_map: PonderMap, one: PonderMap, strip: Strip, row: int
) -> None:
    canvas.write_heading("How long each token thought", facts(ponder_map))
    cut = (
        ""
        if strip.tokens == one.valid.shape[1]
        else f", the first {strip.tokens} of {one.valid.shape[1]} tokens"
    )
    title = (
        f"Sequence {row + 1} of {ponder_map.num_sequences}{cut}: each token, and its number of "
        "steps"
    )
    canvas.write(MARGIN, _STRIP_TOP - 0.17, title, size=11, weight="bold")
    if one.wrong[0, : strip.tokens].any():
        right = MARGIN + strip.columns * strip.cell
        canvas.write(right, _STRIP_TOP - 0.17, "outlined: wrong answer", color=WRONG, ha="right")
