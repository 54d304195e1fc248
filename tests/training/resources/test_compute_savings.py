"""What halting saves, measured on a run; and points of a front read from JSON."""

import json
from pathlib import Path

import pytest
from small_runs import small, train_only
from told_sweeps import FOUND, measure_all, sweep_of

from halting import UsageError
from training.resources.compute_savings import measure_saved
from training.runs.loaded import load_run
from training.tuning.pareto import ParetoPoint
from training.tuning.pareto_file import read_points


def test_what_is_saved_is_measured_on_one_batch_and_leaves_the_model_as_it_was(tmp_path):
    assert (
        train_only(
            small(tmp_path, name="run", halting={"kind": "FixedSteps", "options": {"steps": 2}})
        )
        == 0
    )
    run = load_run(tmp_path / "run")
    saved = measure_saved(run, run.task.batch("test", 0, 4), repeats=1)
    assert saved.depth == 4 and saved.how.startswith("batch of 4, cpu")
    costs = {each.name: each for each in saved.measured}
    assert list(costs) == [
        "FLOPs, inference",
        "time, inference",
        "FLOPs, training",
        "time, training",
    ]
    assert all(each.own > 0 and each.fixed > 0 for each in costs.values())
    # Embedding lookups are free, and two of four steps halve the block; the head stays.
    assert 0.5 < costs["FLOPs, inference"].own / costs["FLOPs, inference"].fixed < 0.6
    assert not run.model.training and run.model.recurrence.max_steps == 4
    asked_nothing = measure_saved(run, run.batch_of("red →0 →1"), repeats=1)
    assert [each.name for each in asked_nothing.measured] == ["FLOPs, inference", "time, inference"]


def test_points_are_read_from_the_folder_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep, space = sweep_of(Path("s"), "--penalty.value", *FOUND, "--updates", "7")
    with pytest.raises(UsageError, match="no trial of it is done"):
        read_points(Path("s"))
    sweep.queue(space.grid(), range(1))
    measure_all(sweep, FOUND)
    points = read_points(Path("s"))
    assert [(each.accuracy, each.compute, each.collapsed) for each in points] == [
        (row["accuracy"], row["mean_steps"], row["collapsed"]) for row in FOUND.values()
    ]
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="no sweep's folder"):
        read_points(tmp_path / "other")


@pytest.mark.parametrize("wrapped", [False, True])
def test_points_are_read_with_what_else_stands_beside(tmp_path, wrapped):
    rows = [
        {
            "label": "0.01",
            "accuracy": 1,
            "compute": 2.5,
            "interval": [0.9, 1],
            "details": [["seed", "0"]],
            "trial": 7,
        },
        {"label": "1", "accuracy": 0.5, "compute": 1, "collapsed": True, "interval": None},
    ]
    path = tmp_path / "front.json"
    path.write_text(json.dumps({"points": rows, "best": 1} if wrapped else rows))
    assert read_points(path) == [
        ParetoPoint("0.01", 1.0, 2.5, interval=(0.9, 1.0), details=(("seed", "0"),)),
        ParetoPoint("1", 0.5, 1.0, collapsed=True),
    ]
