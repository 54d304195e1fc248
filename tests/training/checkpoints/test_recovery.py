"""A collapse is noticed early, and `--on-collapse` says what is done then."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import small, stands_at, train_only

from halting.errors import UsageError
from training.build import build_all
from training.checkpoints import checkpoint
from training.checkpoints.progress import Progress
from training.checkpoints.recovery import take_back
from training.engine.local import LocalEngine
from training.runs import metrics

COLLAPSED: dict[str, Any] = {
    "halting": {"kind": "GravesACT", "options": {"bias_init": 9.0}},
    "penalty": {"value": 0.3},
    "updates": 16,
    "eval_every": 100,
    "keep_last": 1,
}


def says(folder) -> list[str]:
    return [line["says"] for line in metrics.read_metrics(folder, "warning")]


@pytest.mark.parametrize("way", ["warn", "stop"])
def test_a_collapse_is_seen_before_the_next_evaluation(tmp_path, capsys, way):
    assert train_only(small(tmp_path, name="run", **COLLAPSED, on_collapse=way)) == (
        1 if way == "stop" else 0
    )
    folder = tmp_path / "run"
    evaluations = [line["update"] for line in metrics.read_metrics(folder, "evaluation")]
    assert evaluations == ([10] if way == "stop" else [10, 16])
    assert "halting collapsed: 100% of tokens stop at step 1" in says(folder)[0]
    if way == "stop":
        assert "--halting.bias-init -3 --penalty.value 0.03" in capsys.readouterr().out
        assert metrics.read_metrics(folder, "collapsed")


def test_a_collapsed_run_is_taken_back_and_goes_on_deeper_with_a_lower_penalty(tmp_path):
    assert train_only(small(tmp_path, name="run", **COLLAPSED, on_collapse="recover")) == 0
    folder = tmp_path / "run"
    lines = metrics.read_metrics(folder, "train")
    assert [line["update"] for line in lines] == list(range(1, 17))
    assert {round(line["penalty"], 9) for line in lines} == {0.1} and lines[-1]["mean_steps"] > 2
    gone = [
        json.loads(line) for line in (folder / "metrics.collapsed-1.jsonl").read_text().splitlines()
    ]
    assert [line["update"] for line in gone if line["kind"] == "train"] == list(range(1, 11))
    (told,) = [text for text in says(folder) if "recovering" in text]
    assert told.startswith(
        "recovering (1 of 4) from the collapse at update 10: going on after update 0"
    )
    assert "penalty 0.3 → 0.1" in told and "halting bias 9 → -1" in told
    spent = stands_at(folder)
    assert spent["recoveries"] == 1 and spent["mean_steps"] == lines[-1]["mean_steps"]
    longer = small(tmp_path, name="run", **{**COLLAPSED, "updates": 18}, on_collapse="recover")
    assert train_only(longer, folder) == 0
    assert metrics.read_metrics(folder, "train")[-1]["penalty"] == pytest.approx(0.1)


def test_a_target_is_not_recovered_from_as_it_owns_the_penalty(tmp_path):
    steered = {"value": 0.01, "target_steps": "2"}
    with pytest.raises(
        UsageError, match="--on-collapse recover comes with --penalty.target-steps 2"
    ):
        small(tmp_path, penalty=steered, on_collapse="recover")
    assert small(tmp_path, penalty=steered, on_collapse="stop").penalty.target_steps == "2"


def test_a_collapse_that_is_seen_when_all_is_trained_is_told_and_the_run_ends(tmp_path):
    late = {**COLLAPSED, "updates": 5}
    assert train_only(small(tmp_path, name="run", **late, on_collapse="recover")) == 0
    told = says(tmp_path / "run")
    assert "halting collapsed" in told[0] and not any("recovering" in text for text in told)
    assert metrics.read_metrics(tmp_path / "run", "train")[-1]["penalty"] == pytest.approx(0.3)


def test_a_run_that_cannot_be_rescued_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("training.checkpoints.recovery._LOWER_BY", 0.5)
    monkeypatch.setattr("training.checkpoints.recovery._AT_MOST", 9.0)
    assert train_only(small(tmp_path, name="run", **COLLAPSED, on_collapse="recover")) == 1
    folder = tmp_path / "run"
    assert len([text for text in says(folder) if "recovering" in text]) == 4
    (ended,) = metrics.read_metrics(folder, "collapsed")
    assert ended["says"] == "halting collapsed again, after 4 recoveries, at update 10"
    assert (folder / "metrics.collapsed-4.jsonl").exists()


def test_the_last_good_checkpoint_is_kept_and_taken(tmp_path):
    config = small(tmp_path)
    built = build_all(config)
    engine = LocalEngine(built.model, config.optimizer, torch.device("cpu"))
    kept = tmp_path / "checkpoints"
    for update, steps in ((0, None), (4, 2.5), (8, 1.0), (12, 1.05)):
        checkpoint.save(
            kept, engine, Progress(update, mean_steps=steps), keep_last=1, keep_good=True
        )
    assert [path.name for path in checkpoint.found(kept)] == ["update-000004", "update-000012"]
    with torch.no_grad():
        before = built.model.head.weight.clone()
        built.model.head.weight.zero_()
    taken = take_back(kept, engine)
    assert taken is not None and taken.progress.update == 4 and taken.bias == (-1.0, -3.0)
    assert torch.equal(built.model.head.weight, before)
    assert built.model.recurrence.rule.gate.bias.item() == -3.0
    assert [path.name for path in kept.iterdir()] == ["update-000004"]
    assert (
        load_file(kept / "update-000004" / "model.safetensors")["recurrence.rule.gate.bias"].item()
        == -1.0
    )


def test_a_rule_without_a_bias_gets_the_lower_penalty_alone(tmp_path):
    config = small(tmp_path, halting={"kind": "StickBreaking"})
    built = build_all(config)
    engine = LocalEngine(built.model, config.optimizer, torch.device("cpu"))
    assert take_back(tmp_path / "checkpoints", engine) is None
    checkpoint.save(tmp_path / "checkpoints", engine, Progress(), keep_last=1)
    taken = take_back(tmp_path / "checkpoints", engine)
    assert taken is not None and taken.bias is None
