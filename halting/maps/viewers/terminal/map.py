"""The ponder map as text: token texts, and beneath each the steps that it took."""

import textwrap

import numpy as np
from rich.text import Text

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name, facts, percent
from halting.maps.viewers.colours import WRONG, step_colour
from halting.maps.viewers.terminal.rows import Style, is_dense, joined, layout, style_of
from halting.maps.viewers.visible_text import visible


def render(
    ponder_map: PonderMap,
    sequences: int = 3,
    width: int | None = None,
    colour: bool | None = None,
    ascii_only: bool = False,
    bars: bool = False,
    heading: bool = True,
) -> str:
    """The first sequences of a map as lines of text.

    Single-character tokens that don't fit on a line with gaps are shown densely: the text, and
    under it the steps as 1 to 9, then a to z for 10 to 35 and + beyond.

    Args:
        sequences: how many to show.
        width: cells per line; the terminal's when None.
        colour: None colours when standard output is a terminal and NO_COLOR isn't set.
        ascii_only: no character beyond ASCII.
        bars: also histograms of steps and of mean steps by difficulty, over the whole map.
        heading: what the map is of, above, and a line for each sequence where several are shown.
    """
    style = style_of(width, colour, ascii_only)
    shown = [ponder_map.sequence(row) for row in range(min(sequences, ponder_map.num_sequences))]
    dense = is_dense(shown, style)
    lines: list[Text] = _heading(ponder_map, style) if heading else []
    for row, sequence in enumerate(shown):
        if heading and ponder_map.num_sequences > 1:
            lines += [
                Text(),
                Text(f"sequence {row + 1} of {ponder_map.num_sequences}", style="dim"),
            ]
        elif heading:
            lines.append(Text())
        lines += _sequence(sequence, style, dense)
    if bars:
        lines += _bars(ponder_map, style)
    return joined(lines, style)


def _heading(ponder_map: PonderMap, style: Style) -> list[Text]:
    separator = " | " if style.ascii_only else " · "
    text = separator.join(
        visible(fact, style.ascii_only, keep_spaces=True) for fact in facts(ponder_map)
    )
    return [Text(line, style="bold") for line in textwrap.wrap(text, style.width)]


def _sequence(sequence: PonderMap, style: Style, dense: bool) -> list[Text]:
    """The rows of one sequence without padding, in blocks no wider than the width."""
    if not sequence.steps.size:
        return [Text("(no tokens)")]
    wrong = sequence.wrong[0].tolist()
    laid = layout(sequence, style, dense)
    mark = "x" if style.ascii_only else "✗"
    lines: list[Text] = []
    for block in laid.blocks:
        rows = [
            laid.row("tok", [(laid.texts[i], f"bold {WRONG}" if wrong[i] else "") for i in block]),
            laid.steps_row("steps", sequence, block),
        ]
        if any(wrong[i] for i in block):
            rows.append(
                laid.row(
                    "wrong", [(mark, f"bold {WRONG}") if wrong[i] else ("", "") for i in block]
                )
            )
        lines += ([Text()] if block.start else []) + rows
    return lines


def _bars(ponder_map: PonderMap, style: Style) -> list[Text]:
    """How many tokens took each number of steps, and the mean steps at each difficulty."""
    steps = ponder_map.steps[ponder_map.valid]
    if not steps.size:
        return []
    counts = np.bincount(steps, minlength=ponder_map.max_steps + 1)
    taken = range(0 if counts[0] else 1, len(counts))
    share = [(str(n), counts[n] / steps.size, percent(counts[n] / steps.size), n) for n in taken]
    lines = [
        Text(),
        Text("steps: share of tokens", style="bold"),
        *_chart(share, ponder_map.max_steps, style),
    ]
    if groups := ponder_map.steps_by_difficulty():
        name = difficulty_name(ponder_map)
        spearman = ponder_map.spearman()
        agreement = "" if spearman is None else f" (Spearman {spearman:.2f})"
        means = [(f"{g.difficulty:.4g}", g.steps, f"{g.steps:.2f}", round(g.steps)) for g in groups]
        title = f"{visible(name, style.ascii_only, keep_spaces=True)}: mean steps{agreement}"
        lines += [Text(), Text(title, style="bold"), *_chart(means, ponder_map.max_steps, style)]
    return lines


def _chart(entries: list[tuple[str, float, str, int]], max_steps: int, style: Style) -> list[Text]:
    """Horizontal bars of (label, length, figure, steps); the longest fills what the width
    leaves."""
    before = max(len(entry[0]) for entry in entries)
    after = max(len(entry[2]) for entry in entries)
    room = max(min(style.width - before - after - 4, 50), 1)
    longest = max(entry[1] for entry in entries) or 1
    lines = []
    for label, length, figure, steps in entries:
        filled = max(round(room * length / longest), 1 if length > 0 else 0)
        line = Text(label.rjust(before) + "  ")
        line.append(
            ("#" if style.ascii_only else "▇") * filled, step_colour(max(steps, 1), max_steps)
        )
        lines.append(line.append(" " * (room - filled) + "  " + figure.rjust(after)))
    return lines
