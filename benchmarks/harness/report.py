"""Figures against their targets, as every benchmark writes them with `--json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


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
