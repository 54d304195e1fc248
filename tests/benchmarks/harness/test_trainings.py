"""Benchmarks made of whole trainings: what is kept, what is run again, and what an interrupt leaves
behind."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import psutil
import pytest

from benchmarks.harness import trainings
from benchmarks.harness.cli import make_training_parser
from benchmarks.harness.digest import ROOT
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows
from benchmarks.rules.benchmark import table
from benchmarks.rules.cases import CASES
from benchmarks.rules.measure import measure

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


def never(homes: list[Path]) -> Row:
    raise AssertionError("it was run again")


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    monkeypatch.setattr(
        trainings, "_QUICK", ("--updates", "2", "--eval-examples", "4", "--test-examples", "4")
    )
    words = ["--quick", "--workers", "1", "--results", str(tmp_path)]
    return make_training_parser("tiny", "Tiny.").parse_args(words)


def test_a_training_is_run_once_and_its_row_kept(options: Namespace):
    second = ("--train-only", "rule")
    (row,) = TrainingRows("tiny", options, measure).run([tiny(second=second)])
    assert 0 <= row["accuracy"] <= 1 and row["executed_training"] > 0 and row["torch"]
    assert row["commands"][0].startswith("ponder train pointer_chase --data.length 4")
    assert row["commands"][1].endswith(
        "--start-from runs/FIRST --seed 0 " + " ".join(trainings._QUICK)
    )
    again = TrainingRows("tiny", options, measure)
    again.measure = never
    assert list(again.run([tiny(second=second)])) == [row]
    assert again.rows.find(commands=tiny().commands) is None, "another command is another row"
    assert TrainingRows("tiny", options, never).rows.find(commands=row["commands"]) is None, (
        "what another function measures is another row"
    )


def test_a_training_that_fails_is_told_and_run_again(options: Namespace):
    runs = TrainingRows("tiny", options, measure)
    (row,) = runs.run([tiny(0, "--loop.max-steps", "0")])
    assert "max-steps is 0" in row["failed"]
    assert runs.rows.path is not None and not runs.rows.path.exists()
    assert table(CASES[:1], [{**row, "name": CASES[0].name}])[1] == [
        (CASES[0].name, *["–"] * 7, "0")
    ]


def test_an_interrupt_ends_what_runs_and_keeps_no_row(tmp_path: Path):
    script = (
        "from benchmarks.harness.cli import make_training_parser\n"
        "from benchmarks.harness.trainings import Training, TrainingRows\n"
        "from benchmarks.rules.measure import measure\n"
        f"words = ['--workers', '1', '--results', {str(tmp_path)!r}]\n"
        "options = make_training_parser('long', 'Long.').parse_args(words)\n"
        f"training = Training('long', 0, ({(*TINY, '--updates', '100000')!r},))\n"
        "list(TrainingRows('long', options, measure).run([training]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
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
