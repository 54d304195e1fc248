"""Benchmarks made of whole trainings: what is kept, what is run again, and what an interrupt leaves
behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.harness import trainings
from benchmarks.harness.report import exit_code, write
from benchmarks.harness.trainings import Kept, Training, run_all
from benchmarks.rules.benchmark import CASES, against_targets, main, measure, table

TINY = (
    "pointer_chase",
    "--data.length",
    "4",
    "--model.width",
    "16",
    "--loop.max-steps",
    "2",
    "--batch-size",
    "4",
)


def tiny(seed: int = 0, *flags: str, second: tuple[str, ...] | None = None) -> Training:
    stages = [(*TINY, *flags)] + ([(*TINY, *second)] if second is not None else [])
    return Training("tiny", seed, tuple(stages), quick=True)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(trainings, "RESULTS", tmp_path)
    monkeypatch.setattr(
        trainings, "_QUICK", ("--updates", "2", "--eval-examples", "4", "--test-examples", "4")
    )
    return Kept("tiny", quick=True)


def test_a_training_is_run_once_and_its_row_kept(kept: Kept):
    second = ("--train-only", "rule")
    (row,) = run_all([tiny(second=second)], kept, 1, measure)
    assert 0 <= row["accuracy"] <= 1 and row["executed_training"] > 0 and row["torch"]
    assert row["commands"][0].startswith("ponder train pointer_chase --data.length 4")
    assert row["commands"][1].endswith(
        "--start-from runs/FIRST --seed 0 " + " ".join(trainings._QUICK)
    )

    def never(homes: list[Path]) -> trainings.Row:
        raise AssertionError("it was run again")

    assert list(run_all([tiny(second=second)], kept, 1, never)) == [row]
    assert kept.row(tiny()) is None and kept.row(tiny(1, second=second)) is None, (
        "another command is another row"
    )


def test_a_training_that_fails_is_told_and_run_again(kept: Kept):
    (row,) = run_all([tiny(0, "--loop.max-steps", "0")], kept, 1, measure)
    assert "max-steps is 0" in row["failed"] and not kept.path.exists()
    assert table(CASES[:1], [{**row, "name": CASES[0].name}])[1] == [
        (CASES[0].name, *["–"] * 7, "0")
    ]


def test_an_interrupt_ends_what_runs_and_keeps_no_row(tmp_path: Path):
    script = (
        "from pathlib import Path\nfrom benchmarks.harness import trainings\nfrom benchmarks.rules import benchmark as rules\n"
        f"trainings.RESULTS = Path({str(tmp_path)!r})\n"
        f"training = trainings.Training('long', 0, (({', '.join(map(repr, TINY))}, '--updates', "
        "'100000'),))\n"
        "list(trainings.run_all([training], trainings.Kept('long', False), 1, rules.measure))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=trainings.ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (started := running(child.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert started, "the training never started"
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) != 0
        for pid in started:
            while alive(pid) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not alive(pid), "a training was left behind"
        assert list(tmp_path.iterdir()) == []
    finally:
        for pid in [child.pid, *running(child.pid)]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        child.wait()


def running(parent: int) -> list[int]:
    """The trainings that a process has started."""
    try:
        children = psutil.Process(parent).children()
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in children if "training.train" in child.cmdline()]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def row(name: str, **values: float | None) -> trainings.Row:
    usual = {
        "accuracy": 0.99,
        "ponder": 2.0,
        "executed_training": 3.0,
        "executed_evaluation": 2.0,
        "seconds": 9.0,
    }
    return {
        "name": name,
        **usual,
        "tokens": 0.5,
        "ponder_of_tokens": 0.4,
        "sequences": 0.3,
        **values,
    }


def test_the_worst_seed_is_held_against_the_target(tmp_path: Path):
    act = next(case for case in CASES if case.name == "GravesACT")
    rows = [row("GravesACT"), row("GravesACT", accuracy=0.97, tokens=-0.1, seconds=301.0)]
    figures = against_targets([act], rows)
    assert [figure.met for figure in figures] == [False, False, False] and exit_code(figures) == 1
    assert exit_code(against_targets([act], rows[:1])) == 0
    assert not against_targets([act], [row("GravesACT", tokens=None)])[2].met, (
        "a correlation that is not defined"
    )
    write(figures, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())[0] == {
        "figure": "GravesACT: accuracy",
        "value": 0.97,
        "target": "≥ 0.98",
        "met": False,
    }
    assert table([act], rows)[1] == [
        (
            "GravesACT",
            "0.9700 … 0.9900",
            "2.00",
            "3.00",
            "2.00",
            "-0.10 … 0.50",
            "tokens",
            "9 … 301",
            "2",
        )
    ]


def test_rules_that_let_a_sequence_go_are_held_to_its_difficulty():
    judged = {case.name: against_targets([case], [row(case.name)])[-1].value for case in CASES}
    assert judged["QHalt"] == judged["CorrectnessHalt"] == 0.3
    assert judged["UniversalTransformerACT"] == 0.4 and judged["PonderNet"] == 0.5
    assert judged["FixedSteps"] == 9.0, "a fixed depth follows nothing"


def test_an_unknown_rule_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--rules", "NoSuchRule"])
    assert "there is no case NoSuchRule" in capsys.readouterr().err
