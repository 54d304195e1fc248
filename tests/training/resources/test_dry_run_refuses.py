"""Whatever a training refuses, its dry run refuses, with the same words; and what it takes it
takes."""

import json
import shutil
from pathlib import Path

import pytest
from small_runs import small, train_only

from halting.errors import UsageError
from training.train import main

QUICK = [
    *("pointer_chase", "--data.length", "6", "--model.width", "16", "--model.num-heads", "2"),
    *("--model.positions", "learned", "--loop.max-steps", "4", "--updates", "2"),
    *("--batch-size", "8", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("refuses")
    assert train_only(small(output, name="run")) == 0
    return output / "run"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "ds.json").write_text(json.dumps({"train_batch_size": 16}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "runs" / "taken" / "final").mkdir(parents=True)
    return tmp_path


def refusal(words: list[str]) -> str | None:
    try:
        main(words)
    except UsageError as error:
        return "\n".join(map(str, (error.what, error.why, error.write)))
    return None


def check_alike(words: list[str], part: str, capsys) -> None:
    dry = refusal([*words, "--dry-run"])
    assert "nothing was trained" in capsys.readouterr().err
    assert dry == refusal(words) and dry is not None and part in dry, dry


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--batch-size", "7", "--accumulation", "2"], "cannot be divided"),
        (["--halting.min-steps", "9"], "lies above"),
        (["--name", "taken"], "exists already"),
        (["--output", "file"], "exists already"),
        (["--output", "file/below"], "No run folder can be made"),
        (["--output", "file/below/deep", "--name", "a"], "No run folder can be made"),
        (["--start-from", "nowhere"], "not a run folder"),
        (["--train-only", "rule"], "without --start-from"),
        (["--penalty.target-steps", "2", "--loop.train-depth", "uniform"], "--loop.train-depth"),
        (["--penalty.target-steps", "2", "--halting.kind", "FixedSteps"], "--penalty.target-steps"),
        (["--penalty.ramp", "0", "0.1", "--halting.kind", "PonderNet"], "--penalty.ramp"),
        (["--precision", "fp16"], "--precision fp16"),
        (["--precision", "bf16_weights"], "bf16_weights"),
        (["--deepspeed-config", "missing.json"], "missing.json"),
        (["--deepspeed-config", "broken.json"], "broken.json"),
        (["--deepspeed-config", "ds.json"], "train_batch_size"),
        (["--objective.kind", "Distillation", "--objective.teacher", "nobody"], "nobody"),
    ],
)
def test_flags_that_cannot_be(flags, part, capsys):
    check_alike([*QUICK, *flags], part, capsys)


def test_data_that_cannot_be_read_and_a_task_without_difficulty(place, capsys):
    words = ["bytes", "--device", "cpu", "--model.width", "16", "--model.num-heads", "2"]
    check_alike([*words, "--data.text", "nowhere.txt"], "nowhere.txt", capsys)
    (place / "text.txt").write_text("as it was " * 2000)
    words += ["--data.text", "text.txt", "--data.length", "16", "--updates", "1"]
    check_alike([*words, "--balance-by", "difficulty"], "--balance-by difficulty", capsys)


def test_another_width_than_that_of_the_start(run, capsys):
    check_alike([*QUICK, "--start-from", str(run), "--model.width", "32"], "width 16", capsys)


def test_a_run_that_cannot_go_on(run, place, capsys):
    check_alike(["--resume", "nowhere"], "nowhere", capsys)
    check_alike(["--resume", f"{run}@7"], "no checkpoint of update 7", capsys)
    check_alike(["--resume", f"{run}@best"], "no best checkpoint", capsys)
    other = Path(shutil.copytree(run, place / "other"))
    check_alike(["--resume", str(other), "--model.width", "32"], "is of another model", capsys)
    damaged = Path(shutil.copytree(run, place / "damaged"))
    for weights in damaged.glob("checkpoints/*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    check_alike(["--resume", str(damaged)], "no whole checkpoint", capsys)
    newest = max(damaged.glob("checkpoints/update-*")).name
    check_alike(["--resume", str(damaged / "checkpoints" / newest)], "is damaged", capsys)
    empty = Path(shutil.copytree(run, place / "empty"))
    shutil.rmtree(empty / "checkpoints")
    check_alike(["--resume", str(empty)], "holds no checkpoint", capsys)


def test_a_config_file(run, place, capsys):
    config = json.loads((run / "config.json").read_text())
    config["name"] = "taken"
    config["output"] = "runs"
    (place / "again.json").write_text(json.dumps(config))
    check_alike(["--config", "again.json"], "exists already", capsys)
    config["updates"] = -1
    (place / "bad.json").write_text(json.dumps(config))
    check_alike(["--config", "bad.json"], "updates", capsys)


def test_what_can_be_is_told_and_nothing_is_written(run, place, capsys):
    before = sorted(place.rglob("*")) + sorted(run.rglob("*"))
    gone = [*QUICK, "--start-from", str(run)]
    resumed_with_start = ["--resume", str(run), "--start-from", "nowhere"]
    for words in (gone, ["--resume", str(run)], resumed_with_start):
        assert main([*words, "--dry-run"]) == 0
        assert "nothing is trained or written" in capsys.readouterr().out
    assert sorted(place.rglob("*")) + sorted(run.rglob("*")) == before
