"""The ponder map as one picture: the token strip; under it where the mass went, what was known when, what was hard."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from halting.errors import UsageError
from halting.ponder_map import PonderMap
from halting.viewers import picture_panels as panels
from halting.viewers.canvas import MARGIN, ROOM, WIDTH, Canvas, paint
from halting.viewers.caption import facts
from halting.viewers.colours import WRONG
from halting.viewers.picture_strip import Strip, draw_strip, strip_layout

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRIP_TOP = 1.32
_PANEL = 2.75
_UNDER_STRIP = 0.6
_UNDER_PANEL = 0.95
_WIDE = 40  # beyond so many tokens, the two heat maps lie under each other over most of the width


def save_picture(ponder_map: PonderMap, path: str | Path, sequence: int = 0) -> None:
    """Writes a PNG of one sequence (its first 512 tokens), and of the steps of the whole map.

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
    paint(path, partial(_draw, ponder_map=ponder_map, one=one, row=sequence))


def _draw(figure: "Figure", ponder_map: PonderMap, one: PonderMap, row: int) -> None:
    strip = strip_layout(one, ROOM)
    lens = one.target_probability is not None and bool(np.isfinite(one.target_probability[:, : strip.tokens]).any())
    wide = strip.tokens > _WIDE
    panels_top = _STRIP_TOP + strip.height + _UNDER_STRIP
    rows = 2 if wide and lens else 1
    height = panels_top + rows * _PANEL + (rows - 1) * _UNDER_PANEL + 0.75
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    _draw_heading(canvas, ponder_map, one, strip, row)
    draw_strip(canvas.axes(MARGIN, _STRIP_TOP, strip.columns * strip.cell, strip.height), one, strip)

    next_row = panels_top + _PANEL + _UNDER_PANEL
    if wide:
        heat_width, last_left = 0.66 * ROOM, MARGIN + 0.66 * ROOM + 1.35
        heat_places = [(MARGIN, panels_top), (MARGIN, next_row)]
    elif lens:
        heat_width, last_left = 0.262 * ROOM, MARGIN + 0.746 * ROOM
        heat_places = [(MARGIN, panels_top), (MARGIN + 0.371 * ROOM, panels_top)]
    else:
        heat_width, last_left = 0.5 * ROOM, MARGIN + 0.5 * ROOM + 1.5
        heat_places = [(MARGIN, panels_top)]
    for (title, values), (left, top) in zip(panels.heats(one, strip.tokens), heat_places, strict=False):
        scale = canvas.axes(left + heat_width + 0.1, top, 0.11, _PANEL)
        panels.draw_heat(canvas.axes(left, top, heat_width, _PANEL), scale, one, values, title)
    on_the_right: list[Callable[[Axes, PonderMap], None]] = [panels.draw_mean_steps, panels.draw_histogram]
    for draw, top in zip(on_the_right[:rows], (panels_top, next_row), strict=False):
        draw(canvas.axes(last_left, top, WIDTH - MARGIN - last_left, _PANEL), ponder_map)


def _draw_heading(canvas: Canvas, ponder_map: PonderMap, one: PonderMap, strip: Strip, row: int) -> None:
    canvas.write_heading("How long each token thought", facts(ponder_map))
    cut = "" if strip.tokens == one.valid.shape[1] else f", the first {strip.tokens} of {one.valid.shape[1]} tokens"
    title = f"Sequence {row + 1} of {ponder_map.num_sequences}{cut}: each token, and its number of steps"
    canvas.write(MARGIN, _STRIP_TOP - 0.17, title, size=11, weight="bold")
    if one.wrong[0, : strip.tokens].any():
        right = MARGIN + strip.columns * strip.cell
        canvas.write(right, _STRIP_TOP - 0.17, "outlined: wrong answer", color=WRONG, ha="right")
