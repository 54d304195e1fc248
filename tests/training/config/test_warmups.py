"""A run that is shortened by a flag keeps its shape, and what it can hardly mean is said."""

from pathlib import Path

import pytest
from small_runs import small

from halting.costs.steps_plus_remainder import StepsPlusRemainder
from training.build import build_task
from training.cli.train_request import read_request
from training.config.run_config import RunConfig
from training.loop.doubts import doubts
from training.recipes.load import load_recipe
from training.resources.dry_run_text import dry_run_text
from training.start import train
from training.tuning.space import Space


@pytest.mark.parametrize(
    ("words", "penalty", "schedule"),
    [
        ("", 500, 100),
        ("--updates 2000", 500, 100),
        ("--updates 200", 50, 10),
        ("--updates=200", 50, 10),
        ("--updates 4000", 500, 100),
        ("--updates 200 --penalty.warmup 500", 500, 10),
        ("--updates 200 --schedule.warmup=100", 50, 100),
        ("--updates 200 --penalty.warmup 7 --schedule.warmup 3", 7, 3),
        ("--updates 1", 0, 0),
    ],
)
def test_warm_ups_keep_their_share_unless_they_are_given(words: str, penalty: int, schedule: int):
    config = read_request(["parity", *words.split()]).config
    assert config.penalty.warmup == penalty
    assert config.schedule.options.get("warmup", 100) == schedule
    swept = Space.read("parity", [*words.split(), "--halting.bias-init", "0", "1"])
    assert swept.config(swept.grid()[0]).penalty.warmup == penalty


def test_what_was_shortened_is_said(capsys: pytest.CaptureFixture[str]):
    read_request(["parity", "--updates", "200", "--halting.kind", "ExpertChoiceRouter"])
    said = capsys.readouterr().out
    assert "--schedule.warmup 100 → 10" in said and "--halting.warmup 500 → 50" in said
    read_request(["parity", "--updates", "3000"])
    assert not capsys.readouterr().out


def test_a_run_that_goes_on_keeps_its_warm_ups(tmp_path: Path):
    config = load_recipe("parity")
    (tmp_path / "config.json").write_text(config.to_json())
    went_on = read_request(["--resume", str(tmp_path), "--updates", "200"]).config
    assert went_on == config.replace(updates=200)


def parity(**changes: object) -> RunConfig:
    return load_recipe("parity").replace(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ()),
        ({"updates": 200}, ("--penalty.warmup 500", "ends at 0.00398, 40% of 0.01")),
        ({"updates": 501}, ()),
        ({"updates": 500}, ("--penalty.warmup 500",)),
        ({"updates": 90, "penalty": {"warmup": 0}}, ("--schedule.warmup 100", "at 90%")),
        ({"updates": 200, "penalty": {"value": 0.0}}, ()),
        ({"updates": 200, "penalty": {"target_steps": "3"}}, ("target may never",)),
        ({"updates": 200, "penalty": {"ramp": (0.01, 0.1)}}, ("ramp never begins",)),
        ({"penalty": {"value": 0.7}}, ("--penalty.value 0.7", "above the 0.69")),
        ({"penalty": {"value": 0.69}}, ()),
        ({"optimizer": {"weight_decay": 400.0}}, ("--optimizer.weight-decay 400", "is 1.2")),
        ({"optimizer": {"learning_rate": 1e308, "weight_decay": 1e308}}, ("is inf",)),
    ],
)
def test_what_can_hardly_be_meant_is_said_in_a_dry_run_too(
    changes: dict[str, object], says: tuple[str, ...]
):
    config = parity(**changes)
    found = "\n".join(doubts(config, build_task(config), StepsPlusRemainder()))
    assert all(each in found for each in says) and bool(found) == bool(says)
    if len(says) == 1 and "inf" not in says[0]:
        assert says[0] in " ".join(dry_run_text(config).split())


def test_a_training_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train(small(tmp_path, name="short", updates=2, save_every=2)) == 0
    assert "warning: --penalty.warmup 6 is longer than the run of 2" in capsys.readouterr().out
