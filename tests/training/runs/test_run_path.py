"""RUN, RUN@500 and RUN@best: what each names, and how a run goes on from there."""

import json

import pytest
import torch
from small_runs import losses, small, train_only

from halting import UsageError
from training import load_run
from training.checkpoints import checkpoint
from training.cli import ablate, compare, evaluate, export, show
from training.runs.metrics import read_metrics
from training.runs.resume import check_resumable
from training.runs.run_path import RunPath
from training.start import train
from training.train import main


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints 0 to 12, every fourth update, and one that is best."""
    # So rough that the last evaluation is not the best.
    rough = {
        "optimizer": {"learning_rate": 1.0},
        "schedule": {"kind": "WarmupConstant", "options": {"warmup": 0}},
    }
    often = {"keep_last": 9, "eval_every": 4, "save_every": 4}
    config = small(tmp_path, name="run", best_by="loss", **rough, **often)
    assert train(config) == 0
    return tmp_path / "run"


def test_what_a_person_writes_is_read_once(tmp_path):
    assert RunPath.parse("runs/a") == RunPath(tmp_path.__class__("runs/a"))
    assert RunPath.parse("runs/a@500").which == 500 and RunPath.parse("runs/a@best").which == "best"
    inside = RunPath.parse("runs/a/checkpoints/update-000500")
    assert inside == RunPath.parse("runs/a@500")
    (tmp_path / "a@7").mkdir()
    assert RunPath.parse(tmp_path / "a@7") == RunPath(tmp_path / "a@7")
    with pytest.raises(UsageError, match="good comes after the @"):
        RunPath.parse("runs/a@good")


def test_a_run_without_that_checkpoint_says_which_it_has(tmp_path):
    assert train_only(small(tmp_path, name="run")) == 0
    with pytest.raises(UsageError, match=r"no checkpoint of update 7.*") as refused:
        load_run(f"{tmp_path / 'run'}@7")
    assert "8, 12" in refused.value.why
    for read in (load_run, lambda text: check_resumable(RunPath.parse(text))):
        with pytest.raises(UsageError, match="no best checkpoint"):
            read(f"{tmp_path / 'run'}@best")


def test_every_verb_reads_the_best_checkpoint(run):
    kept = checkpoint.best(run / "checkpoints")
    told = json.loads((run / "summary.json").read_text())["best"]
    losses_there = {row["update"]: row["loss"] for row in read_metrics(run, "evaluation")}
    assert told["update"] == min(losses_there, key=lambda update: losses_there[update])
    assert kept == checkpoint.folder_of(run / "checkpoints", told["update"])
    assert load_run(f"{run}@best").weights == kept / "model.safetensors"
    for verb in (show, evaluate):
        assert verb.main([f"{run}@best"]) == 0
    assert compare.main([f"{run}@best", str(run)]) == 0
    assert ablate.main([f"{run}@best", "--steps", "1", "2"]) == 0
    assert export.main([f"{run}@best"]) == 0
    assert (run / f"export-{kept.name}" / "model.safetensors").exists()


def test_a_run_starts_from_the_best_weights_of_another(run, tmp_path):
    config = small(tmp_path, name="next", updates=1, start_from=f"{run}@best")
    assert train_only(config) == 0
    wanted = load_run(f"{run}@best").model.state_dict()
    found = load_run(f"{tmp_path / 'next'}@0").model.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_run_goes_on_from_a_named_checkpoint_and_what_came_after_it_is_kept(run, capsys):
    whole = losses(run)
    final = load_run(run).model.state_dict()
    assert main(["--resume", f"{run}@4", "--eval-examples", "16"]) == 0
    assert "kept in" in capsys.readouterr().out
    assert losses(run) == whole
    aside = run / "set-aside-001"
    names = [path.name for path in checkpoint.found(aside / "checkpoints")]
    assert names == ["update-000008", "update-000012"]
    assert losses(aside) == whole
    old = load_run(aside)
    assert old.weights == aside / "final" / "model.safetensors" and old.summary is not None
    assert all(torch.equal(final[name], tensor) for name, tensor in old.model.state_dict().items())


def test_a_named_checkpoint_that_is_damaged_is_no_place_to_go_on(run):
    broken = checkpoint.folder_of(run / "checkpoints", 4) / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(UsageError, match="is damaged"):
        main(["--resume", f"{run}@4"])
    assert checkpoint.folder_of(run / "checkpoints", 12).exists()
