"""Stage two: a run that starts from another's weights, and trains all of them or the halting rule
alone."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_runs import losses, small, train_only

from halting import UsageError
from training import load_run
from training.build import build_all
from training.checkpoints import checkpoint
from training.resources.dry_run import plan
from training.start import train
from training.train import main

ACT = {"kind": "GravesACT"}
RULE = "recurrence.rule."


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of GravesACT, and one of FixedSteps, both of 12 updates."""
    output = tmp_path_factory.mktemp("first")
    assert train_only(small(output, name="act")) == 0
    assert train(small(output, name="fixed", halting={"kind": "FixedSteps"})) == 0
    return output


def weights(folder):
    return load_file(folder / "model.safetensors")


def newest(run):
    return checkpoint.found(run / "checkpoints")[-1]


def rule_only(output, source, **changes):
    return small(
        output, **{"start_from": str(source), "train_only": "rule", "halting": ACT, **changes}
    )


@pytest.mark.parametrize("backprop", ["full", "checkpointed"])
def test_what_is_frozen_stays_to_the_bit_and_the_gate_learns(first, tmp_path, capsys, backprop):
    config = rule_only(
        tmp_path, first / "fixed", name="gate", loop={"max_steps": 4, "backprop": backprop}
    )
    assert train(config) == 0
    said = capsys.readouterr().out
    assert f"starting from {first / 'fixed' / 'final' / 'model.safetensors'}" in said
    assert (
        f"new here, as initialised: {RULE}gate.weight, {RULE}gate.bias" in said
        and "not taken" not in said
    )
    assert "of which 17 learn" in said
    before, after = weights(first / "fixed" / "final"), weights(tmp_path / "gate" / "final")
    assert before.keys() == {name for name in after if not name.startswith(RULE)}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    fresh = build_all(config).model.state_dict()
    assert all(not torch.equal(fresh[name], after[name]) for name in after if name.startswith(RULE))
    assert len(set(losses(tmp_path / "gate").values())) == 12


def test_everything_may_learn_on_and_the_first_update_starts_there(first, tmp_path, capsys):
    source = newest(first / "act")
    still = {"learning_rate": 1e-30, "weight_decay": 0.0}
    assert (
        train_only(
            small(
                tmp_path,
                name="still",
                start_from=str(source),
                optimizer=still,
                schedule={"kind": "WarmupCosine", "options": {"warmup": 0}},
            )
        )
        == 0
    )
    assert "new here" not in capsys.readouterr().out
    before = weights(source)
    after = weights(newest(tmp_path / "still"))
    assert before.keys() == after.keys()
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-20
    assert train_only(small(tmp_path, name="on", start_from=str(source))) == 0
    assert losses(tmp_path / "on")[1] == losses(tmp_path / "still")[1] != losses(first / "act")[1]
    moved = weights(newest(tmp_path / "on"))
    assert all(not torch.equal(before[name], moved[name]) for name in before)


def test_another_rule_starts_afresh_even_where_names_agree(first, tmp_path, capsys):
    other = {"kind": "small_runs:Namesake"}
    assert (
        train_only(rule_only(tmp_path, first / "act", name="other", halting=other, updates=1)) == 0
    )
    said = capsys.readouterr().out
    names = f"{RULE}gate.weight, {RULE}gate.bias"
    assert f"new here, as initialised: {names}" in " ".join(said.split())
    left = said.partition("not taken from there: ")[2].splitlines()[0]
    assert set(left.split(", ")) == set(names.split(", "))


def test_a_stage_two_run_goes_on_where_it_stopped_though_its_source_is_gone(first, tmp_path):
    source = shutil.copytree(first / "fixed", tmp_path / "source")
    assert (
        train_only(
            rule_only(tmp_path, source, name="cut", schedule={"kind": "WarmupConstant"}, updates=8)
        )
        == 0
    )
    assert (
        train_only(rule_only(tmp_path, source, name="long", schedule={"kind": "WarmupConstant"}))
        == 0
    )
    shutil.rmtree(source)
    assert main(["--resume", str(tmp_path / "cut"), "--updates", "12"]) == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "long")
    run = load_run(tmp_path / "cut")
    assert json.loads((run.folder / "config.json").read_text())["train_only"] == "rule"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": {"width": 32, "num_heads": 2, "positions": "learned"}},
            "has --model.width 16; here it is 32",
        ),
        (
            {"model": {"width": 16, "num_heads": 4, "positions": "learned"}},
            "--model.num-heads 2; here it is 4",
        ),
        (
            {"data": {"kind": "PointerChase", "options": {"length": 7}}},
            r"\[10, 16\] there and \[11, 16\] here",
        ),
        ({"start_from": "nowhere"}, "nowhere is not a run folder"),
        ({"halting": {"kind": "FixedSteps"}}, "no parameters"),
        ({"start_from": None}, "without --start-from"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(first, tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        train(rule_only(tmp_path / "runs", first / "act", **changes))
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_looks_too(first, tmp_path):
    found = plan(rule_only(tmp_path, first / "act"))
    assert found.memory[0].optimizer == 2 * 4 * 17 and found.parameters["halting rule"] == 17
    with pytest.raises(UsageError, match="not a run folder"):
        plan(rule_only(tmp_path, "nowhere"))
