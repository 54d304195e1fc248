"""The commands that a verb prints for what comes next are run as they stand."""

import shlex
from pathlib import Path

import pytest
from small_runs import small
from told_sweeps import FOUND, measure_all, sweep_of

from training.cli.main import main
from training.runs.next_commands import next_commands
from training.start import train
from training.tuning.display import Display

TASKS = {
    "PointerChase": {"length": 6},
    "Addition": {"digits": 3},
    "ParityVector": {"length": 6, "most": 3, "test_fewest": 4, "test_most": 6},
    "TextBytes": {"length": 16},
}


def commands_after(said: str, title: str) -> list[list[str]]:
    lines = said[said.index(title) :].splitlines()[1:]
    return [shlex.split(line) for line in lines if line.startswith("  ponder ")]


@pytest.mark.parametrize("kind", TASKS)
def test_what_a_training_names_as_next_works(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("training.exits.calibration.SETTINGS", 3)
    output = tmp_path / "two words"
    options: dict[str, int | str] = dict(TASKS[kind])
    if kind == "TextBytes":
        (tmp_path / "corpus.txt").write_text("a loop that thinks no longer than it has to. " * 200)
        options["text"] = str(tmp_path / "corpus.txt")
    model = {"width": 16, "num_heads": 2}
    if kind == "ParityVector":
        model = {"width": 16, "block": "GRUBlock"}
    config = small(
        output,
        data={"kind": kind, "options": options},
        model=model,
        loop={"max_steps": 3},
        updates=2,
        eval_every=2,
        save_every=2,
        name="run",
        recipe="parity",
    )
    assert train(config) == 0
    commands = commands_after(capsys.readouterr().out, "next:")
    assert len(commands) == 3
    knows = kind != "TextBytes"
    assert any("difficulty" in words for words in commands) == knows
    depths = commands[-1][commands[-1].index("--steps") + 1 :]
    assert depths == ["1", "2", "3"]
    for words in commands:
        assert words[0] == "ponder" and main(words[1:]) == 0, words
    assert "names no difficulty" not in capsys.readouterr().out
    calibrated = ["calibrate", str(output / "run"), "--examples", "60", "--risk", "0.3"]
    assert main([*calibrated, "--exit", "fixed"]) == 0
    said = capsys.readouterr().out
    words = shlex.split(said[said.index("next: ") + len("next: ") :])
    assert main(words[1:]) == 0


def test_what_a_sweep_names_as_next_works(tmp_path, capsys):
    sweep, space = sweep_of(tmp_path / "two words", "--penalty.value", *FOUND)
    sweep.queue(space.grid(), range(1))
    measure_all(sweep, FOUND)
    Display(sweep).end(None)
    [words] = commands_after(capsys.readouterr().out, "to train")
    assert main([*words[1:], "--output", str(tmp_path), "--dry-run"]) == 0


def test_no_depth_lies_beyond_the_step_limit():
    summary = {"mean_steps": 1.2, "steps_by_difficulty": {}}
    deepest = {
        limit: next_commands(Path("r"), {**summary, "max_steps": limit})[-1].split()[4:]
        for limit in (1, 6, 8, 100)
    }
    assert deepest == {
        1: ["1"],
        6: ["1", "2", "4", "6"],
        8: ["1", "2", "4", "8"],
        100: ["4", "8", "16", "32", "64", "100"],
    }
