"""The token strip of the picture: each token's text over the number of its steps, on the colour of
that number."""

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.colours import BLANK, WRONG, step_colour, text_on
from halting.maps.viewers.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_TOKENS = 512
_BETWEEN_ROWS = 0.07
_LONGEST_TEXT = 12


@dataclass(frozen=True)
class Strip:
    """How the tokens are laid out in rows of cells. Lengths are in inches.

    Args:
        tokens: how many are shown.
        columns: cells in a row.
        rows: how many rows.
        cell: width of a cell.
        text_height, number_height: the two parts of a cell.
    """

    tokens: int
    columns: int
    rows: int
    cell: float
    text_height: float
    number_height: float

    @property
    def row_height(self) -> float:
        """From the top of a row to the top of the next."""
        return self.text_height + self.number_height + _BETWEEN_ROWS

    @property
    def height(self) -> float:
        """Of all rows."""
        return self.rows * self.row_height


def strip_layout(one: PonderMap, width: float) -> Strip:
    """Rows of nearly equal length that fit into `width`; longer texts get wider cells."""
    tokens = min(one.valid.shape[1], _MOST_TOKENS)
    longest = max(len(_text(one, place)) for place in range(tokens))
    most = 56 if longest <= 1 else max(96 // (longest + 1), 14)
    rows = ceil(tokens / most)
    columns = ceil(tokens / rows)
    cell = min(width / columns, max(0.68, 0.3 + 0.07 * longest))
    return Strip(tokens, columns, rows, cell, 0.18 + 0.27 * cell, 0.14 + 0.12 * cell)


def draw_strip(at: "Axes", one: PonderMap, strip: Strip) -> None:
    """Draws the first `strip.tokens` of a map of one sequence."""
    from matplotlib.patches import FancyBboxPatch

    at.set(xlim=(0, strip.columns * strip.cell), ylim=(strip.height, 0))
    at.set_axis_off()
    for place in range(strip.tokens):
        steps = int(one.steps[0, place])
        wrong = bool(one.wrong[0, place])
        left = (place % strip.columns) * strip.cell
        top = (place // strip.columns) * strip.row_height
        background = step_colour(steps, one.max_steps) if steps else BLANK
        gap = 0.014
        box = FancyBboxPatch(
            (left + gap, top + gap),
            strip.cell - 2 * gap,
            strip.row_height - _BETWEEN_ROWS - 2 * gap,
            boxstyle=f"round,pad=0,rounding_size={min(0.05, strip.cell / 6)}",
            facecolor=background,
            edgecolor=WRONG if wrong else background,
            linewidth=2 if wrong else 0.4,
            zorder=2 if wrong else 1,
            clip_on=False,
        )
        at.add_patch(box)
        text = _text(one, place)
        number = str(steps)
        fits = (
            72 * 0.86 * strip.cell / (0.64 * max(len(text), 1))
        )  # points; a letter is 0.64 of its size wide
        text_size = min(fits, 14, 52 * strip.text_height)
        number_size = min(10, 72 * 0.62 * strip.cell / len(number), 54 * strip.number_height)
        middle: dict[str, Any] = {"color": text_on(background), "ha": "center", "va": "center"}
        at.text(
            left + strip.cell / 2, top + 0.54 * strip.text_height, text, size=text_size, **middle
        )
        lower = top + strip.text_height + 0.4 * strip.number_height
        at.text(left + strip.cell / 2, lower, number, size=number_size, alpha=0.85, **middle)


def _text(one: PonderMap, place: int) -> str:
    return shortened(visible(one.texts[0][place]), _LONGEST_TEXT)


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text, with an ellipsis in place of what is cut."""
    return text if len(text) <= most else text[: most - 1] + "…"
