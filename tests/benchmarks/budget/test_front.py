"""The arithmetic of `benchmarks.budget`: the front of a sweep, and what lies below it."""

import pytest
from matplotlib import image

from benchmarks.budget.benchmark import against_targets, below_front, front, main, ramp_distances


def row(name: str, ponder: float, accuracy: float, **more) -> dict:
    kept = {
        "name": f"task, {name}",
        "task": "task",
        "ponder": ponder,
        "accuracy": accuracy,
        "target": None,
    }
    return {**kept, **more}


SWEEP = [
    row("penalty 0", 4.0, 1.0),
    row("penalty 0.01", 3.0, 0.98),
    row("penalty 0.01", 3.2, 1.0),
    row("penalty 0.03", 3.5, 0.97),  # beaten by 0.01 in both
    row("penalty 0.1", 2.0, 0.9),
]


def test_the_front_is_of_means_over_seeds_and_leaves_out_what_is_beaten():
    assert front(SWEEP, "task") == (pytest.approx([2.0, 3.1, 4.0]), pytest.approx([0.9, 0.99, 1.0]))
    assert front(SWEEP, "another") == ([], [])


def test_what_lies_below_is_measured_at_equal_compute():
    assert below_front(SWEEP, "task", 2.55, 0.945) == pytest.approx(0.0)
    assert below_front(SWEEP, "task", 2.55, 0.93) == pytest.approx(0.015)
    assert below_front(SWEEP, "task", 1.5, 0.92) == pytest.approx(
        -0.02
    )  # against the cheapest point
    assert below_front(SWEEP, "another", 2.0, 1.0) is None


def test_a_target_is_judged_by_its_worst_run():
    good = row("target 50%", 2.55, 0.945, target=2.5, held=2.52, late_evaluations=[2.4, 2.6])
    bad = row("target 50%", 2.0, 0.88, target=2.5, held=2.2, late_evaluations=[2.5, 2.0])
    assert all(figure.met for figure in against_targets([*SWEEP, good]))
    missed = against_targets([*SWEEP, good, bad])
    assert [figure.value for figure in missed] == pytest.approx([0.12, 0.2, 0.02])
    assert not any(figure.met for figure in missed)


def test_a_ramp_is_told_by_its_mean_distance_after_the_warm_up():
    path = [[100, 0.001, 4.0, 0.5], [300, 0.01, 3.1, 0.98], [400, 0.1, 2.0, 0.87]]
    rows = [*SWEEP, row("ramp", 2.0, 0.87, path=path)]
    assert ramp_distances(rows, "task") == pytest.approx([0.02])
    assert against_targets(rows)[-1].value == pytest.approx(0.02)


def test_the_rows_that_are_kept_meet_what_is_asked_for_and_are_drawn(tmp_path, capsys):
    """What the documents say of them is said of rows made by the commands that the benchmark would
    run today."""
    assert main(["--kept", "--png", str(tmp_path / "budget.png")]) == 0
    said = capsys.readouterr().out
    figures = said.rpartition("figure ")[2].splitlines()[1:]
    assert len(figures) == 12 and all(line.endswith("  met") for line in figures)
    assert said.count(" target 25%") == 2 * 3 and "0 by another command" in said
    pixels = image.imread(tmp_path / "budget.png")
    assert pixels.shape[1] == 1920 and pixels.std() > 0.05
