"""Ponder maps of the same examples under each other as text, with marks where they differ."""

from collections.abc import Sequence
from string import ascii_uppercase

from rich.text import Text

from halting.errors import UsageError
from halting.maps.comparison import check_same_examples
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import facts
from halting.maps.viewers.colours import WRONG
from halting.maps.viewers.terminal.rows import Layout, Style, is_dense, joined, layout, style_of
from halting.maps.viewers.visible_text import visible

LETTERS = ascii_uppercase
"""What the maps are called, in the order in which they are given."""


def render(
    maps: Sequence[PonderMap],
    sequences: int = 3,
    width: int | None = None,
    colour: bool | None = None,
    ascii_only: bool = False,
) -> str:
    """The first sequences: the tokens once, and under them the steps that each map gives them; how
    many more or fewer than the first, where that is so; which answers are wrong; and where the
    answers differ.

    Args:
        maps: of the same examples, at most 26; they are called A, B, C … in this order.
        sequences, width, colour, ascii_only: as in `halting.maps.viewers.terminal.map.render`.

    Raises:
        UsageError: for maps of other examples, and for too many.
    """
    if len(maps) > len(LETTERS):
        raise UsageError(
            f"{len(maps)} maps are compared.", "They are called A to Z.", "Compare fewer at once."
        )
    for other in maps[1:]:
        check_same_examples(maps[0], other)
    style = style_of(width, colour, ascii_only)
    separator = " | " if ascii_only else " · "
    lines = []
    for letter, each in zip(LETTERS, maps, strict=False):
        known = separator.join(visible(fact, ascii_only, keep_spaces=True) for fact in facts(each))
        lines.append(Text(f"{letter}  {known}", style="bold"))
    shown = range(min(sequences, maps[0].num_sequences))
    dense = is_dense([maps[0].sequence(row) for row in shown], style)
    for row in shown:
        lines += [Text(), Text(f"sequence {row + 1} of {maps[0].num_sequences}", style="dim")]
        lines += _sequence([each.sequence(row) for each in maps], style, dense)
    return joined(lines, style)


def _sequence(maps: Sequence[PonderMap], style: Style, dense: bool) -> list[Text]:
    first = maps[0]
    if not first.steps.size:
        return [Text("(no tokens)")]
    most = max(int(each.steps.max()) for each in maps)
    laid = layout(first, style, dense, most)
    lines: list[Text] = []
    for block in laid.blocks:
        rows = [laid.row("tok", [(laid.texts[i], "") for i in block])]
        rows += [
            laid.steps_row(letter, each, block) for letter, each in zip(LETTERS, maps, strict=False)
        ]
        for letter, other in list(zip(LETTERS, maps, strict=False))[1:]:
            rows += _apart(laid, f"{letter}-A", first, other, block)
        cross = "x" if style.ascii_only else "✗"
        for letter, each in zip(LETTERS, maps, strict=False):
            rows += _marks(laid, f"{letter} {cross}", each.wrong[0].tolist(), cross, block)
        differs = [_answers_differ(maps, place) for place in range(first.steps.size)]
        rows += _marks(
            laid,
            "ans !" if style.ascii_only else "ans ≠",
            differs,
            "!" if style.ascii_only else "≠",
            block,
        )
        lines += ([Text()] if block.start else []) + rows
    return lines


def _apart(
    laid: Layout, label: str, first: PonderMap, other: PonderMap, block: range
) -> list[Text]:
    """How many more (+) or fewer (−) steps, where they differ; nothing where they never do."""
    cells = []
    for place in block:
        more = int(other.steps[0, place]) - int(first.steps[0, place])
        number = f"{more:+d}" if not laid.dense else "+" if more > 0 else "-"
        cells.append((number[: laid.cell], "") if more else ("", ""))
    return [laid.row(label, cells)] if any(text for text, _ in cells) else []


def _marks(laid: Layout, label: str, marked: Sequence[bool], mark: str, block: range) -> list[Text]:
    if not any(marked[place] for place in block):
        return []
    style = f"bold {WRONG}"
    return [laid.row(label, [(mark, style) if marked[place] else ("", "") for place in block])]


def _answers_differ(maps: Sequence[PonderMap], place: int) -> bool:
    answers = {
        int(each.final_prediction[0, place]) for each in maps if each.final_prediction is not None
    }
    return len(answers) > 1
