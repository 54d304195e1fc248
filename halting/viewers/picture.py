"""The ponder map as one sheet of six pictures: the token strip; where the mass went and what was known when; steps
against difficulty, accuracy against compute, and compute saved."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from halting.errors import UsageError
from halting.ponder_map import PonderMap
from halting.viewers import picture_panels as panels
from halting.viewers.canvas import MARGIN, ROOM, WIDTH, Canvas, paint
from halting.viewers.caption import facts
from halting.viewers.colours import WRONG
from halting.viewers.compute_saved import ComputeSaved, draw_saved
from halting.viewers.pareto import ParetoPoint
from halting.viewers.pareto_picture import draw_pareto
from halting.viewers.picture_strip import Strip, draw_strip, strip_layout

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
_THIRD, _NEXT = 2.7, 3.9
_NO_FRONT = """No sweep was handed in: one run is one point.

A sweep over penalties draws the front:
ponder tune RECIPE --penalty.value 0 1e-3 1e-2

and this panel shows it:
ponder show RUN --png FILE --pareto SWEEP"""


def save_picture(
    ponder_map: PonderMap,
    path: str | Path,
    sequence: int = 0,
    *,
    pareto: Sequence[ParetoPoint] = (),
    saved: ComputeSaved | None = None,
) -> None:
    """Writes a PNG of one sequence (its first 512 tokens), and of the whole map.

    Args:
        ponder_map: the map.
        path: where to.
        sequence: which of its sequences.
        pareto: what a sweep found; where there is none, the panel says how to make one.
        saved: what was measured against fixed depth; where nothing was, the map's steps alone are shown.

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
    paint(path, partial(_draw, ponder_map=ponder_map, one=one, row=sequence, pareto=pareto, saved=saved))


def _draw(
    figure: "Figure",
    ponder_map: PonderMap,
    one: PonderMap,
    row: int,
    pareto: Sequence[ParetoPoint],
    saved: ComputeSaved | None,
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
    draw_strip(canvas.axes(MARGIN, _STRIP_TOP, strip.columns * strip.cell, strip.height), one, strip)
    half = ROOM / 2 - 0.35
    places = [(MARGIN, top), (MARGIN, top + next_row)] if wide else [(MARGIN, top), (WIDTH - MARGIN - half, top)]
    heat_width = (ROOM if wide else half) - _SCALE
    for heat, (left, above) in zip(panels.heats(one, strip.tokens), places, strict=True):
        at = canvas.axes(left, above, heat_width, _PANEL)
        if heat.values is None:
            panels.say_nothing(at, heat.title, "No answers were read out, or nothing was asked.")
            continue
        scale = canvas.axes(left + heat_width + 0.1, above, 0.11, _PANEL)
        panels.draw_heat(at, scale, one, heat.values, heat.title)
    at, front, compute = (canvas.axes(MARGIN + place * _NEXT, last_row, _THIRD, _PANEL) for place in range(3))
    panels.draw_mean_steps(at, ponder_map)
    _draw_front(front, pareto)
    draw_saved(compute, ponder_map, saved)


def _draw_front(at: "Axes", pareto: Sequence[ParetoPoint]) -> None:
    title = "Accuracy against compute"
    if pareto:
        draw_pareto(at, pareto, title=title)
    else:
        panels.say_nothing(at, title, _NO_FRONT)


def _draw_heading(canvas: Canvas, ponder_map: PonderMap, one: PonderMap, strip: Strip, row: int) -> None:
    canvas.write_heading("How long each token thought", facts(ponder_map))
    cut = "" if strip.tokens == one.valid.shape[1] else f", the first {strip.tokens} of {one.valid.shape[1]} tokens"
    title = f"Sequence {row + 1} of {ponder_map.num_sequences}{cut}: each token, and its number of steps"
    canvas.write(MARGIN, _STRIP_TOP - 0.17, title, size=11, weight="bold")
    if one.wrong[0, : strip.tokens].any():
        right = MARGIN + strip.columns * strip.cell
        canvas.write(right, _STRIP_TOP - 0.17, "outlined: wrong answer", color=WRONG, ha="right")
