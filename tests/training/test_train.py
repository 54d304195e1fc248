"""A run from its config to its folder: what it writes, how it ends, how it goes on."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import Signalling, losses, small, train_only

from halting import UsageError
from halting.maps.ponder_map import PonderMap
from training import load_run
from training.checkpoints import checkpoint
from training.cli.train_request import read_request
from training.config.run_config import RunConfig
from training.runs import metrics
from training.start import train
from training.train import main

ZERO2 = Path(__file__).parents[2] / "ds_configs" / "zero2.json"

SIGNALLING = {"kind": "small_runs:Signalling", "options": {"length": 6}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that ended as asked."""
    output = tmp_path_factory.mktemp("finished")
    assert train(small(output)) == 0
    return output / "pointer_chase-001"


def test_a_run_folder_holds_everything_that_explains_it(finished):
    names = {path.name for path in finished.iterdir() if not path.name.startswith("events.")}
    wanted = {
        "checkpoints",
        "final",
        "growth",
        "config.json",
        "data.json",
        "summary.json",
        "metrics.jsonl",
        "log.txt",
        "report.md",
    }
    assert names == wanted | {f"ponder_map.{ending}" for ending in ("npz", "json", "html", "png")}
    assert len(list(finished.glob("events.out.tfevents*"))) == 1
    assert {path.name for path in (finished / "final").iterdir()} == {
        "model.safetensors",
        "config.json",
        "manifest.json",
    }


def test_the_config_of_a_run_folder_starts_the_same_run_again(finished, tmp_path):
    config = RunConfig.from_json((finished / "config.json").read_text())
    assert config == small(finished.parent)
    assert train_only(config.model_copy(update={"output": str(tmp_path)})) == 0
    assert losses(tmp_path / "pointer_chase-001") == losses(finished)


def test_the_summary_has_the_figures_of_unseen_examples(finished):
    summary = json.loads((finished / "summary.json").read_text())
    figures = {
        "accuracy",
        "sequence_accuracy",
        "mean_steps",
        "mean_ponder",
        "spearman_steps_difficulty",
        "bits",
        "loss",
    }
    assert figures <= set(summary)
    assert summary["updates"] == 12 and summary["examples"] == 96 and summary["train_seconds"] > 0
    run = load_run(finished)
    batch = run.task.batch("test", 0, 16)
    output = run.forward(batch)
    right = (output.logits.argmax(-1) == batch.targets).double().mean()
    assert summary["accuracy"] == pytest.approx(float(right), abs=1e-9)
    assert summary["mean_steps"] == pytest.approx(
        float(output.trace.steps.double().mean()), abs=1e-9
    )
    of_roots = output.trace.steps[batch.difficulty == 0].float().mean()
    assert summary["steps_by_difficulty"]["0"] == pytest.approx(float(of_roots))


def test_every_update_is_a_line_and_every_number_is_on_the_board(finished):
    assert list(losses(finished)) == list(range(1, 13))
    evaluations = metrics.read_metrics(finished, "evaluation")
    assert [line["update"] for line in evaluations] == [5, 10, 12]
    assert all(0 <= line["accuracy"] <= 1 for line in evaluations)
    warmed = [line["penalty"] for line in metrics.read_metrics(finished, "train")]
    np.testing.assert_allclose(warmed, 0.01 * np.minimum(1, np.arange(12) / 6))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished)).Reload()
    shown = [event.value for event in board.Scalars("train/loss")]
    np.testing.assert_allclose(shown, list(losses(finished).values()), rtol=1e-6)


def test_the_loss_is_the_task_plus_the_penalty_times_the_cost(finished):
    for line in metrics.read_metrics(finished, "train"):
        assert line["loss"] == pytest.approx(
            line["task_loss"] + line["penalty"] * line["ponder_cost"], rel=1e-9
        )


def test_the_ponder_map_is_of_the_first_test_examples(finished):
    run, kept = load_run(finished), PonderMap.load(finished / "ponder_map")
    batch = run.task.batch("test", 0, 16)
    again = run.ponder_map(batch)
    np.testing.assert_array_equal(kept.tokens, batch.tokens)
    np.testing.assert_array_equal(kept.steps, again.steps)
    np.testing.assert_array_equal(kept.predictions, again.predictions)
    assert kept.metadata["run"] == "pointer_chase-001" and kept.metadata["rule"] == "GravesACT"
    with torch.no_grad():
        probability = (
            run.forward(batch)
            .logits.softmax(-1)
            .gather(-1, batch.targets.unsqueeze(-1))
            .squeeze(-1)
        )
    last = np.take_along_axis(again.target_probability, again.steps[..., None].astype(int) - 1, -1)[
        ..., 0
    ]
    np.testing.assert_allclose(
        last, probability, atol=1e-6
    )  # the lens at the step where it left is its answer


def test_a_typed_text_is_thought_about_too(finished):
    run = load_run(finished)
    shown = run.ponder_map("red →0 →1")
    assert shown.texts == [["red", "→0", "→1"]] and shown.steps.shape == (1, 3)
    with pytest.raises(UsageError, match="neither a colour nor a pointer"):
        run.ponder_map("red →0 mauve")


def test_old_checkpoints_go_only_when_newer_ones_are_whole(finished):
    kept = checkpoint.found(finished / "checkpoints")
    assert [path.name for path in kept] == ["update-000008", "update-000012"]
    assert not list((finished / "checkpoints").glob(".partial*"))


def test_a_checkpoint_is_a_run_too(finished):
    early, late = (load_run(path) for path in checkpoint.found(finished / "checkpoints"))
    final = load_run(finished)
    assert torch.equal(late.model.head.weight, final.model.head.weight)
    assert not torch.equal(early.model.head.weight, final.model.head.weight)


def test_a_second_run_gets_the_next_number_and_a_taken_name_is_refused(finished, capsys):
    assert train(small(finished.parent, updates=1)) == 0
    assert (finished.parent / "pointer_chase-002" / "summary.json").exists()
    before = (finished / "config.json").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        train(small(finished.parent, name="pointer_chase-001"))
    assert (finished / "config.json").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_the_resumed_losses_are_bit_for_bit_the_same(
    finished, tmp_path, number, capsys
):
    options = {"length": 6, "at": 44, "number": int(number)}  # example 44 is read in update 6
    config = small(tmp_path, name="cut", data={**SIGNALLING, "options": options})
    before = signal.getsignal(number)
    assert train(config) == 0
    folder = tmp_path / "cut"
    assert list(losses(folder)) == list(range(1, 7))
    assert f"ponder train --resume {folder}" in capsys.readouterr().out
    assert [path.name for path in checkpoint.found(folder / "checkpoints")][-1] == "update-000006"
    assert not (folder / "summary.json").exists()
    assert signal.getsignal(number) is before  # the handlers of whoever started it are back

    assert main(["--resume", str(folder), "--data.at", "1000000"]) == 0
    assert losses(folder) == losses(finished)
    whole, resumed = (load_run(path).model.state_dict() for path in (finished, folder))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (
        folder / "config.before-update-000006.json"
    ).exists()  # the config that was replaced is kept


def test_what_a_killed_run_wrote_after_its_last_checkpoint_is_written_once(tmp_path):
    assert (
        train_only(small(tmp_path, name="run", updates=8, schedule={"kind": "WarmupConstant"})) == 0
    )
    folder, whole = tmp_path / "run", losses(tmp_path / "run")
    checkpoint.found(folder / "checkpoints")[-1].rename(
        tmp_path / "gone"
    )  # as if it had died before update 8 was saved
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "upda')  # and in the middle of a line
    assert main(["--resume", str(folder)]) == 0
    assert losses(folder) == whole
    assert [line["update"] for line in metrics.read_metrics(folder, "train")] == list(range(1, 9))


def test_a_loss_that_is_lost_stops_the_run_and_the_last_good_checkpoint_stays(tmp_path, capsys):
    optimizer = {"learning_rate": 1e30, "clip": 1e30}
    schedule = {"kind": "WarmupCosine", "options": {"warmup": 0}}
    assert train_only(small(tmp_path, name="good", updates=4)) == 0
    folder = tmp_path / "good"
    assert (
        main(["--resume", str(folder), "--updates", "40", "--optimizer.learning-rate", "1e38"]) == 1
    )
    assert "checkpoint is" in capsys.readouterr().out
    kept = checkpoint.found(folder / "checkpoints")
    assert [path.name for path in kept] == ["update-000000", "update-000004"]
    assert load_run(kept[0]).model.head.weight.isfinite().all()
    assert train(small(tmp_path, name="lost", optimizer=optimizer, schedule=schedule)) == 1
    assert not (tmp_path / "lost" / "summary.json").exists()
    assert metrics.read_metrics(tmp_path / "lost", "lost")


def test_a_time_limit_ends_a_run_as_a_finished_one(tmp_path, capsys):
    assert train(small(tmp_path, name="short", updates=100_000, time_limit=0.2)) == 0
    summary = json.loads((tmp_path / "short" / "summary.json").read_text())
    assert 0 < summary["updates"] < 100_000
    assert "ended after 0.2 s" in capsys.readouterr().out


def test_accumulation_changes_nothing_but_rounding(tmp_path):
    for accumulation in (1, 4):
        assert (
            train_only(
                small(tmp_path, name=f"by{accumulation}", accumulation=accumulation, updates=6)
            )
            == 0
        )
    one, four = (list(losses(tmp_path / f"by{number}").values()) for number in (1, 4))
    np.testing.assert_allclose(one, four, rtol=2e-5)


def test_accumulation_leaves_a_rules_own_state_as_it_is(tmp_path):
    """A warm-up that counted forward passes, or a bias that followed each micro-batch, would move
    faster."""
    rule = {
        "kind": "TokenChoiceRouter",
        "options": {"balance": "bias", "bias_rate": 0.05, "warmup": 2},
    }
    states = []
    for accumulation in (1, 4):
        name = f"balanced{accumulation}"
        assert (
            train_only(
                small(tmp_path, name=name, accumulation=accumulation, updates=6, halting=rule)
            )
            == 0
        )
        states.append(load_run(tmp_path / name).model.recurrence.rule.state_dict())
    assert states[0]["updates"] == states[1]["updates"] == 6
    assert (
        torch.equal(states[0]["moves"], states[1]["moves"]) and states[0]["moves"].abs().sum() > 0
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--updates", "5"], "No recipe is named"),
        (["nothing_like_it"], "no recipe nothing_like_it"),
        (["pointer_chase", "--loop.max-steps", "0"], "--loop.max-steps is 0"),
        (["pointer_chase", "--penalty.value", "nan"], "--penalty.value is nan"),
        (["pointer_chase", "--data.length", "1"], "length"),
        (["bytes", "--data.text", "/nowhere/at/all"], "/nowhere/at/all"),
        (
            ["pointer_chase", "--halting.kind", "FixedSteps", "--cost.kind", "ExpectedSteps"],
            "spreads its mass",
        ),
        (["bytes", "--halting.per-sequence"], "causal"),
        (["pointer_chase", "--device", "cuda"], "no GPU"),
        (["--resume", "nowhere"], "not a run folder"),
        (["pointer_chase", "--deepspeed-config", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match=says):
        main(words)
    assert not list(tmp_path.iterdir())


def test_a_run_through_the_compiler_goes_as_without(tmp_path, unchecked, fresh_compiler):
    """Its weights are read back and evaluated without it. That each compiled part computes what it
    should, tests/act/layers/test_compiled.py says; so the injection, which is compiled four times
    over, is left out here."""
    model = {"width": 16, "num_heads": 2, "positions": "learned", "injection": "none"}
    for name, compiled, run in (("plain", False, train_only), ("compiled", True, train)):
        loop = {"max_steps": 4, "compiled": compiled, "attention": "ragged"}
        assert run(small(tmp_path, name=name, updates=6, loop=loop, model=model)) == 0
    plain, other = losses(tmp_path / "plain"), losses(tmp_path / "compiled")
    assert other == pytest.approx(plain, rel=1e-5)
    assert (
        load_run(tmp_path / "compiled").model.state_dict().keys()
        == load_run(tmp_path / "plain").model.state_dict().keys()
    )


def test_compiling_without_a_compiler_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match="CXX names no-such-compiler"):
        train(small(tmp_path, loop={"compiled": True}))
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_is_answered_with_the_one_that_was_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["pointer_chase", "--penalty.valeu", "0.1"])
    assert ended.value.code == 2
    assert "--penalty.value" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    assert train(small(tmp_path, name="run", updates=4)) == 0
    with pytest.raises(UsageError, match="another model"):
        main(["--resume", str(tmp_path / "run"), "--updates", "8", "--model.width", "32"])


def test_a_damaged_weights_file_is_named(tmp_path):
    assert train(small(tmp_path, name="run", updates=2)) == 0
    weights = tmp_path / "run" / "final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"model\.safetensors has 100 bytes instead of"):
        load_run(tmp_path / "run")


def test_a_run_without_a_checkpoint_is_not_started_afresh_in_silence(tmp_path):
    assert train(small(tmp_path, name="run", updates=2)) == 0
    for kept in checkpoint.found(tmp_path / "run" / "checkpoints"):
        kept.rename(tmp_path / kept.name)
    with pytest.raises(UsageError, match="holds no checkpoint"):
        main(["--resume", str(tmp_path / "run")])


def test_the_launchers_own_words_are_taken(tmp_path):
    request = read_request(["--local_rank=1", "--deepspeed", "pointer_chase", "--batch_size", "32"])
    assert request.config.batch_size == 32 and request.resume is None
    assert read_request(["--local_rank", "0", "parity"]).config.recipe == "parity"
    words = ["--local_rank=0", "pointer_chase", "--deepspeed"]
    for file in ([str(ZERO2)], [f"--deepspeed_config={ZERO2}"]):
        config = read_request([*words, *file, "--batch_size", "32"]).config
        assert config.launch.deepspeed_config == str(ZERO2) and config.batch_size == 32
        assert config.deepspeed is not None


def test_a_file_for_deepspeed_gives_the_recipes_values_way_and_no_flags(tmp_path, capsys):
    (tmp_path / "ds.json").write_text(json.dumps({"train_batch_size": 24, "wandb": {}}))
    words = ["pointer_chase", "--deepspeed", str(tmp_path / "ds.json")]
    config = read_request(words).config
    assert config.batch_size == 24
    assert "ds.json says --batch-size 24\n" in capsys.readouterr().out
    with pytest.raises(UsageError, match="train_batch_size = 24, but --batch-size = 64"):
        read_request([*words, "--batch-size", "64"])
    with pytest.raises(UsageError, match="Both name the file"):
        read_request([*words, "--deepspeed-config", "other.json"])
    # Who only starts the ranks does not know how many there will be.
    assert read_request([*words, "--batch-size", "64"], ranks_known=False).config.deepspeed is None


def test_ranks_without_a_ds_config_are_refused(monkeypatch, tmp_path):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="2 ranks were started without"):
        train(small(tmp_path))
    with pytest.raises(UsageError, match="cannot be shared by 2"):
        train(small(tmp_path, batch_size=7, deepspeed_config="ds_configs/zero1.json"))


def test_a_signalling_task_is_what_it_claims():
    assert Signalling(at=10**9).batch("train", 0, 4).tokens.shape == (4, 6)


def test_a_quiet_run_says_how_it_ended_and_lines_come_as_often_as_asked(tmp_path, capsys):
    assert train_only(small(tmp_path, name="loud", log_every=4)) == 0
    lines = capsys.readouterr().out.splitlines()
    ordinary = [line for line in lines if line.startswith("step ") and "  steps " in line]
    assert [line.split("/")[0].split()[-1] for line in ordinary] == ["4", "8", "12"]
    assert train(small(tmp_path, name="quiet", quiet=True)) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert said[-1].startswith(f"written to {tmp_path / 'quiet'}:")
    assert all(line.startswith("warning:") for line in said[:-1])
