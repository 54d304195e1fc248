"""Cells of the table of signals: each saves, or says why not. `python -m benchmarks.signals` has all
of them."""

from pathlib import Path

import pytest

from benchmarks.signals.benchmark import QUICK, send


@pytest.mark.parametrize(("number", "starter", "target", "moment"), QUICK)
def test_a_signal_loses_nothing_without_a_word(
    tmp_path: Path, number: str, starter: str, target: str, moment: str
) -> None:
    cell = send(number, starter, target, moment, tmp_path.resolve())
    assert cell.passes, cell
