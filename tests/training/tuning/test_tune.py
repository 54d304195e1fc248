"""`ponder tune` as one meets it: killed, stopped, gone on with, and its point trained."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from training.cli.train_request import read_request
from training.cli.tune import main
from training.tuning.sweep import Sweep

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """
import sys
import time
from pathlib import Path
from training.config.sections import Part
from training.config.run_config import RunConfig
from training.tasks import PointerChase

class Waiting(PointerChase):
    def batch(self, split, index, size):
        # The first examples are looked at before a trial begins; those that it trains on wait.
        trial = Path(sys.orig_argv[-1]).with_suffix("")
        saved = (trial / "checkpoints" / "update-000000" / "manifest.json").exists()
        while saved and split == "train" and size > 1 and (Path(__file__).parent / "wait").exists():
            time.sleep(0.05)
        return super().batch(split, index, size)

def recipe():
    return RunConfig(
        recipe="waiting", data=Part(kind=__file__ + ":Waiting", options={"length": 6}), threads=1,
        model={"width": 8, "num_heads": 2, "positions": "learned"}, loop={"max_steps": 3}, updates=4, batch_size=4,
        eval_every=4, eval_examples=8, test_examples=8, schedule={"kind": "WarmupCosine", "options": {"warmup": 1}},
    )
"""
WORDS = ["waiting.py", "--penalty.value", "0", "0.2", "--out", "sweep"]


def wait_until(met: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not met():
        assert time.monotonic() < end, "it did not come to that in two minutes"
        time.sleep(0.05)


def at_work(number: int) -> bool:
    """Whether a trial trains: it has saved its start, and waits for its first examples."""
    return Path(f"sweep/trials/{number:04d}/checkpoints/update-000000/manifest.json").exists()


def test_a_sweep_that_is_killed_or_stopped_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("waiting.py").write_text(RECIPE)
    Path("wait").touch()

    run = [sys.executable, "-m", "training.cli.tune", *WORDS]
    with Path("said.txt").open("w") as said:
        sweeping = subprocess.Popen(run, stdout=said, stderr=said, start_new_session=True)
    try:
        wait_until(lambda: at_work(0) or sweeping.poll() is not None)
        trial = psutil.Process(sweeping.pid).children()
        assert len(trial) == 1, Path("said.txt").read_text()
    finally:
        sweeping.kill()
        sweeping.wait()
    assert psutil.wait_procs(trial, timeout=60)[1] == []  # no trial trains on as an orphan
    assert Sweep(Path("sweep")).counts() == {"waiting": 1, "working": 1, "done": 0, "failed": 0}

    def interrupt() -> None:
        wait_until(lambda: at_work(1))
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=interrupt)
    pressing.start()
    assert main(WORDS) == 130
    pressing.join()
    said = capsys.readouterr().out
    assert "stopped after SIGINT: 0 trials are done, 2 are to come" in said
    assert "to go on: ponder tune --out sweep" in said
    assert Sweep(Path("sweep")).counts() == {"waiting": 2, "working": 0, "done": 0, "failed": 0}

    Path("wait").unlink()
    assert main(["--out", "sweep", "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert Sweep(Path("sweep")).counts() == {"waiting": 0, "working": 0, "done": 2, "failed": 0}
    assert "2 to come, 0 new" in said and "% at " in said and "--from-tune sweep --pick" in said
    kept = {path.name for path in Path("sweep/trials").glob("*/*")}
    assert kept == {"config.json", "log.txt", "metrics.jsonl", "trial.json"}
    assert {path.name for path in Path("sweep").iterdir()} >= {
        "trials.csv",
        "pareto.png",
        "pareto.html",
        "report.md",
    }

    config = read_request(
        ["waiting.py", "--from-tune", "sweep", "--pick", "best", "--updates", "9"]
    ).config
    assert config.penalty.value in (0.0, 0.2) and config.updates == 9 and config.name is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pointer_chase"], "Nothing is swept"),
        (["--penalty.value", "1", "2"], "Neither a recipe nor a sweep is named"),
        (["pointer_chase", "--penalty.value", "1", "--seeds", "0"], "--seeds is 0"),
        (
            ["pointer_chase", "--penalty.value", "1", "--trial-budget", "soon"],
            "--trial-budget soon",
        ),
        (
            [
                "pointer_chase",
                "--penalty.value",
                "0",
                "--halting.kind",
                "PonderNet",
                "QHalt",
                "--penalty.value=1",
            ],
            "twice",
        ),
        (
            [
                "pointer_chase",
                "--penalty.value",
                "0",
                "--halting.kind",
                "ExitGate",
                "--cost.kind",
                "QLearning",
            ],
            "QLearning",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(words, says, tmp_path, monkeypatch, capsys):
    from training.console.entry import run_entry

    monkeypatch.chdir(tmp_path)
    assert run_entry(main, words) == 2
    told = capsys.readouterr().err
    assert says in told and "why:" in told and "fix:" in told
    assert list(tmp_path.iterdir()) == []
