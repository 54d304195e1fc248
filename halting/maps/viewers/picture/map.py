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
from halting.maps.viewers.picture.curve import draw_mean_steps
from halting.maps.viewers.picture.strip import Strip, draw_strip, strip_layout

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRIP_TOP = 1.32
_PANEL = 2.75
_UNDER_STRIP = 0.6
_UNDER_PANEL = 1.05
_BOTTOM = 0.85
_WIDE = 40  # beyond so many tokens, a heat map lies over the whole width
_HALF = 20  # and beyond so many, over half of it
_OUTLINED = 1.9  # from the end of the title to that of the words on wrong answers
_SCALE = 0.6  # room for the scale of a heat map, and its numbers
_BETWEEN = 0.7  # panels
_BETWEEN_LAST = 1.2  # that come from elsewhere, and write longer numbers
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
    heats = [partial(_draw_heat, one=one, heat=heat) for heat in panels.heats(one, strip.tokens)]
    curves = [partial(_draw_curve, draw=partial(draw_mean_steps, ponder_map=ponder_map))]
    curves += [partial(_draw_curve, draw=draw) for draw in beside]
    rows = _rows(heats, curves, strip.tokens)
    top = _STRIP_TOP + strip.height + _UNDER_STRIP
    height = top + len(rows) * (_PANEL + _UNDER_PANEL) - _UNDER_PANEL + _BOTTOM
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    _draw_heading(canvas, ponder_map, one, strip, row)
    draw_strip(
        canvas.axes(MARGIN, _STRIP_TOP, strip.columns * strip.cell, strip.height), one, strip
    )
    between = _BETWEEN_LAST if beside else _BETWEEN
    for place, panels_of_row in enumerate(rows):
        above = top + place * (_PANEL + _UNDER_PANEL)
        apart = _BETWEEN if panels_of_row == heats else between
        wide = (ROOM - apart * (len(panels_of_row) - 1)) / len(panels_of_row)
        for column, panel in enumerate(panels_of_row):
            panel(canvas, MARGIN + column * (wide + apart), above, wide)


_Placed = Callable[[Canvas, float, float, float], None]
"""Draws one panel at its left and upper edge, so wide."""


def _rows(heats: list[_Placed], curves: list[_Placed], tokens: int) -> list[list[_Placed]]:
    """The panels row by row; those of a row share the whole width."""
    everything = [*heats, *curves]
    if tokens > _WIDE:
        return [*([heat] for heat in heats), curves]
    if len(everything) <= (2 if tokens > _HALF else 3):
        return [everything]
    return [everything[:2], everything[2:]] if len(everything) == 4 else [heats, curves]


def _draw_heat(
    canvas: Canvas, left: float, above: float, wide: float, *, one: PonderMap, heat: panels.Heat
) -> None:
    at = canvas.axes(left, above, wide - _SCALE, _PANEL)
    scale = canvas.axes(left + wide - _SCALE + 0.1, above, 0.11, _PANEL)
    panels.draw_heat(at, scale, one, heat.values, heat.title)


def _draw_curve(canvas: Canvas, left: float, above: float, wide: float, *, draw: Panel) -> None:
    draw(canvas.axes(left, above, wide, _PANEL))


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
    end = canvas.write(MARGIN, _STRIP_TOP - 0.17, title, size=11, weight="bold")
    if one.wrong[0, : strip.tokens].any():
        right = max(MARGIN + strip.columns * strip.cell, end + _OUTLINED)
        canvas.write(right, _STRIP_TOP - 0.17, "outlined: wrong answer", color=WRONG, ha="right")
