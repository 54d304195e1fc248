"""What is timed of bounds, and how it is judged."""

from benchmarks.harness.rows import Rows
from benchmarks.language.packed_rows import TARGETS, _measured, against_targets, measure, table


def test_a_row_times_the_same_model_with_and_without_bounds():
    row = _measured("GravesACT", 128, 128, turns=1)
    assert row["documents"] >= 1 and 1 < row["mean_steps"] < 4
    assert 0.2 < row["ratio"] < 5 and row["seconds"] > 0


def test_rows_that_are_there_are_judged_and_not_measured():
    rows = Rows(None, "code")
    for rule in ("FixedSteps", "GravesACT"):
        for length in TARGETS:
            ratio = 1.01 if rule == "GravesACT" else 0.9
            rows.add(
                {"part": "packed", "rule": rule, "length": length, "tokens": 2048, "turns": 13}
                | {"mean_steps": 4.0, "seconds": 1.0, "seconds_without": 1.0}
                | {"ratio": ratio, "ratios": [0.8, 1.2]}
            )
    found = measure(rows, quick=False)
    assert len(table(found)[1]) == 6
    assert [figure.met for figure in against_targets(found)] == [True] * 5 + [False]
