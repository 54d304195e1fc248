"""The best checkpoint and early stopping: judged, kept, and the same after a resume."""

import json
import math

import pytest
from small_runs import losses, small, stands_at, train_only

from halting import UsageError
from training.checkpoints import checkpoint
from training.loop.best_tracker import BestTracker
from training.runs.metrics import read_metrics
from training.train import main


def tracked(folder, by, values, patience=None) -> BestTracker:
    tracker = BestTracker(small(folder, best_by=by, patience=patience))
    for update, value in enumerate(values, 1):
        tracker.observe({by: value}, update)
    return tracker


@pytest.mark.parametrize(
    ("by", "values", "best"),
    [
        ("loss", [3.0, 1.0, 2.0], 2),
        ("bits", [3.0, 1.0, 0.5], 3),
        ("accuracy", [0.1, 0.9, 0.5], 2),
        ("sequence_accuracy", [0.5, 0.5, 0.5], 1),
        ("accuracy", [math.nan, 0.1, math.nan], 2),
        ("loss", [math.nan, math.inf], None),
    ],
)
def test_better_has_a_direction_and_a_tie_is_none(tmp_path, by, values, best):
    assert tracked(tmp_path, by, values).update == best


def test_patience_counts_from_the_best(tmp_path):
    assert not tracked(tmp_path, "loss", [3.0, 2.0, 2.5], patience=2).exhausted
    spent = tracked(tmp_path, "loss", [3.0, 2.0, 2.5, 2.0], patience=2)
    assert spent.exhausted
    assert spent.says() == "early: 2 evaluations without a better loss than 2 at update 2"
    assert not tracked(tmp_path, "loss", [3.0, 2.0, 2.5, 2.0, 1.0], patience=2).exhausted


def test_a_state_counts_only_for_its_figure_and_while_its_checkpoint_is_there(tmp_path):
    state = tracked(tmp_path, "loss", [3.0, 2.0, 2.5]).state_dict()
    again = BestTracker(small(tmp_path, best_by="loss"))
    again.load_state_dict(state, tmp_path)
    assert again.update is None and again.waited == 0, "nothing of update 2 is there"
    kept = checkpoint.folder_of(tmp_path, 2)
    kept.mkdir()
    (kept / "manifest.json").write_text("{}")
    again.load_state_dict(state, tmp_path)
    assert again.state_dict() == state
    other = BestTracker(small(tmp_path, best_by="accuracy"))
    other.load_state_dict(state, tmp_path)
    assert other.update is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"best_by": "los"}, "no metric"),
        ({"best_by": "mean_steps"}, "no metric"),
        ({"patience": 2}, "without --best-by"),
    ],
)
def test_what_cannot_be_judged_by_is_refused(tmp_path, changes, says):
    with pytest.raises(UsageError, match=says) as refused:
        small(tmp_path, **changes)
    assert "accuracy" in refused.value.why + refused.value.write


ROUGH = {
    "updates": 40,
    "eval_every": 2,
    "save_every": 40,
    "keep_last": 1,
    "map_every": 99,
    "best_by": "loss",
    "patience": 3,
    "optimizer": {"learning_rate": 0.3},
    "schedule": {"kind": "WarmupCosine", "options": {"warmup": 0}},
}
"""So large a learning rate that the loss soon gets worse."""


def test_a_run_that_gets_no_better_ends_early_and_keeps_its_best_checkpoint(tmp_path, capsys):
    assert train_only(small(tmp_path, name="run", **ROUGH)) == 0
    folder = tmp_path / "run"
    found = {line["update"]: line["loss"] for line in read_metrics(folder, "evaluation")}
    best = min(found, key=lambda update: found[update])
    last = max(found)
    assert last == best + 6 and last < 40
    assert (
        f"ended early: 3 evaluations without a better loss than {found[best]:.6g}"
        in capsys.readouterr().out
    )
    updates = [checkpoint.update_of(path) for path in checkpoint.found(folder / "checkpoints")]
    assert updates == [best, last]
    state = {"by": "loss", "update": best, "value": found[best], "waited": 3}
    assert stands_at(folder)["best_checkpoint"] == state
    assert main(["--resume", str(folder)]) == 0, "it has ended, and is only tested"
    assert max(losses(folder)) == last
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"] == state


def test_an_early_end_is_the_same_after_a_resume(tmp_path):
    assert train_only(small(tmp_path, name="whole", **ROUGH)) == 0
    data = {"kind": "small_runs:Signalling", "options": {"length": 6, "at": 50}}
    assert train_only(small(tmp_path, name="cut", data=data, **ROUGH)) == 0
    folder = tmp_path / "cut"
    assert max(losses(folder)) == 7
    assert main(["--resume", str(folder), "--data.at", "1000000"]) == 0
    assert losses(folder) == losses(tmp_path / "whole")
    assert stands_at(folder)["best_checkpoint"] == stands_at(tmp_path / "whole")["best_checkpoint"]
