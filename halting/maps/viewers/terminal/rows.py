"""Rows of cells in a terminal: what the views of one map and of several have in common."""

import io
import os
import shutil
import sys
import unicodedata
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.colours import step_colour, text_on
from halting.maps.viewers.visible_text import one_cell, visible

_LABEL = 7  # cells before the first token: "steps" and a gap
_GAP = 2
_LONGEST_TEXT = 16  # cells; longer token texts are cut
# Without the mark, which has no width, a terminal that reorders Hebrew or Arabic would reorder
# whole cells too.
_RIGHT_TO_LEFT = ("R", "AL", "AN")
_LEFT_TO_RIGHT_MARK = "\u200e"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Style:
    """How to write: cells per line, coloured or not, ASCII alone or not."""

    width: int
    colour: bool
    ascii_only: bool


@dataclass(frozen=True)
class Layout:
    """How the tokens of a sequence are laid out in blocks no wider than the width.

    Args:
        texts: one a token, made visible.
        cell, gap: cells of a token, and between two.
        dense: steps are one character a token.
        blocks: the tokens of each block.
    """

    texts: list[str]
    cell: int
    gap: int
    dense: bool
    blocks: list[range]

    def row(self, label: str, cells: list[tuple[str, str]]) -> Text:
        """The label, then each text (and its style) aligned to the right of its cell, one for each
        token of a block."""
        line = Text(label.ljust(_LABEL - self.gap), style="")
        for text, style in cells:
            line.append(" " * self.gap)
            line.append(" " * (self.cell - cell_len(text)) + text, style)
            if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text):
                line.append(_LEFT_TO_RIGHT_MARK)
        return line

    def steps_row(self, label: str, sequence: PonderMap, block: range) -> Text:
        """The steps of a block's tokens, on their colours."""
        steps = sequence.steps[0].tolist()
        backgrounds = [step_colour(steps[i], sequence.max_steps) for i in block]
        numbers = [self.number(steps[i]) for i in block]
        return self.row(
            label, [(n, f"{text_on(b)} on {b}") for n, b in zip(numbers, backgrounds, strict=True)]
        )

    def number(self, steps: int) -> str:
        """Steps in as much room as there is."""
        return str(steps) if not self.dense else _DIGITS[steps] if steps < len(_DIGITS) else "+"


def style_of(width: int | None, colour: bool | None, ascii_only: bool) -> Style:
    """What is not given is the terminal's."""
    if colour is None:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return Style(
        max(width or shutil.get_terminal_size().columns, _LABEL + _GAP + 2),
        bool(colour),
        ascii_only,
    )


def layout(sequence: PonderMap, style: Style, dense: bool, most_steps: int | None = None) -> Layout:
    """Of a map of one sequence.

    Args:
        sequence: the map.
        style: how to write.
        dense: one character a token, without gaps.
        most_steps: the largest number that has to fit into a cell; that of the sequence when None.
    """
    if dense:
        texts = [one_cell(text, style.ascii_only) for text in sequence.texts[0]]
        cell = 1
        gap = 0
    else:
        cut = min(_LONGEST_TEXT, style.width - _LABEL)
        texts = [
            _shortened(visible(text, style.ascii_only), cut, style) for text in sequence.texts[0]
        ]
        gap = _GAP
        largest = int(sequence.steps.max(initial=0)) if most_steps is None else most_steps
        cell = max(cell_len(text) for text in [*texts, str(largest)])
    per_block = max((style.width - _LABEL + gap) // (cell + gap), 1)
    starts = range(0, len(texts), per_block)
    blocks = [range(start, min(start + per_block, len(texts))) for start in starts]
    return Layout(texts, cell, gap, dense, blocks)


def is_dense(shown: list[PonderMap], style: Style) -> bool:
    """Whether single characters are shown without gaps; alike for all that is shown, so that it can
    be compared."""
    texts = [text for sequence in shown for text in sequence.texts[0]]
    longest = max((len(sequence.texts[0]) for sequence in shown), default=0)
    single = all(
        len(text) == 1 and cell_len(one_cell(text, style.ascii_only)) == 1 for text in texts
    )
    return single and _LABEL - _GAP + longest * (1 + _GAP) > style.width


def _shortened(text: str, cells: int, style: Style) -> str:
    if cell_len(text) <= cells:
        return text
    while cell_len(text) > cells - 1:
        text = text[:-1]
    return text + ("~" if style.ascii_only else "…")


def joined(lines: list[Text], style: Style) -> str:
    """The lines as one text, with escape codes where it is coloured."""
    if not style.colour:
        return "\n".join(line.plain.rstrip() for line in lines)
    console = Console(
        file=io.StringIO(), force_terminal=True, no_color=False, highlight=False, width=style.width
    )
    with console.capture() as captured:
        for line in lines:
            console.print(line, soft_wrap=True)
    return captured.get().rstrip("\n")
