"""What `python -m benchmarks.memory` makes of its rows; `tests/distributed/test_engine_memory.py`
measures some."""

import pytest

from benchmarks.harness.digest import code_digest
from benchmarks.harness.report import exit_code
from benchmarks.harness.trainings import Row
from benchmarks.memory.benchmark import LEAST, MEASURED, against_targets, table

KINDS = ("held", "after_forward", "process", "sent")


def row(way: str = "zero1", model: float = LEAST, **ratios: float) -> Row:
    measured = {kind: 1e9 * ratios.get(kind, 1.0) for kind in KINDS}
    return {"way": way, "model": model, "measured": measured, "foretold": dict.fromkeys(KINDS, 1e9)}


def test_all_is_met_where_both_are_equal():
    figures = against_targets([row("zero1"), row("zero2")])
    assert len(figures) == 8 and exit_code(figures) == 0


@pytest.mark.parametrize(
    ("kind", "near", "far"),
    [
        ("held", 1.09, 1.11),
        ("after_forward", 0.91, 0.89),
        ("process", 0.81, 1.21),
        ("sent", 1.04, 0.94),
    ],
)
def test_what_is_too_far_off_is_missed(kind, near, far):
    assert exit_code(against_targets([row(**{kind: near})])) == 0
    figures = against_targets([row(**{kind: far})])
    assert exit_code(figures) == 1 and [each.met for each in figures].count(False) == 1


def test_the_process_of_a_small_model_has_no_target():
    figures = against_targets([row(model=LEAST - 1, process=3.0)])
    assert len(figures) == 3 and exit_code(figures) == 0


def test_the_table_shows_bytes_and_ratios():
    _, lines = table([row(process=1.2)])
    assert lines == [
        ("zero1", "1,000 MB (1.00)", "1,000 MB (1.00)", "1,200 MB (1.20)", "1,000 MB (1.00)")
    ]


def test_what_rows_depend_on_is_there():
    assert len(code_digest(*MEASURED)) == 12 and "training" in MEASURED
