"""Figures against their targets, and tables, as every benchmark prints and writes them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.console.table import aligned, markdown

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head and rows."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        figure: what it is, in words.
        value: what was measured; None where it is not defined.
        target: what was asked for, in words such as "≥ 0.98".
        met: whether it is.
    """

    figure: str
    value: float | None
    target: str
    met: bool


def write(figures: Sequence[Figure], path: Path) -> None:
    """Writes them as a JSON list."""
    rows = [asdict(figure) for figure in figures]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def exit_code(figures: Sequence[Figure]) -> int:
    """0 when all targets are met, 1 when one is missed."""
    return 0 if all(figure.met for figure in figures) else 1


def print_table(table: Table) -> None:
    """Prints it twice: for the eye, and as Markdown to copy."""
    head, lines = table
    print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines), flush=True)


def figures_text(figures: Sequence[Figure]) -> str:
    """A line a figure: what it is, its value, its target, and whether that is met."""
    lines = [
        (
            each.figure,
            "–" if each.value is None else f"{each.value:.4g}",
            each.target,
            "met" if each.met else "MISSED",
        )
        for each in figures
    ]
    return aligned(("figure", "value", "target", ""), lines)


def extent(values: Sequence[float | None], form: str) -> str:
    """The least and the most of those that are known, or the one value, in this format; "–" where
    none is known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return "–"
    least = format(known[0], form)
    most = format(known[-1], form)
    return least if least == most else f"{least} … {most}"
