"""Stopping, and being stopped: all ranks save at the same update, none is left behind, and a job
that dies goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import HERE, LAUNCHER_NAMES, free_port

from training.checkpoints import checkpoint

ROOT = HERE.parent.parent
TINY = [
    *(
        "pointer_chase",
        "--data.length",
        "6",
        "--batch-size",
        "8",
        "--model.width",
        "16",
        "--model.num-heads",
        "2",
    ),
    *(
        "--loop.max-steps",
        "3",
        "--updates",
        "100000",
        "--eval-every",
        "100000",
        "--test-examples",
        "16",
        "--name",
        "run",
    ),
]
PATIENCE = 180.0


@contextmanager
def started(folder: Path, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a group of its own, which is killed with all its descendants at the end,
    whatever happens."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_NAMES}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            text=True,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for each in alive(family(process.pid)) if process.poll() is None else []:
            each.kill()
        for each in orphans(folder):
            each.kill()
        process.kill()
        process.wait()


def deepspeed_words(*more: str) -> list[str]:
    words = [
        "--num_gpus",
        "2",
        "--master_port",
        str(free_port()),
        "--module",
        "training.train",
        *TINY,
    ]
    return [*words, "--deepspeed_config", str(ROOT / "ds_configs" / "zero2.json"), *more]


def family(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def rank_of(pid: int, number: int) -> psutil.Process:
    """One rank of the job that a process has started."""
    return next(each for each in family(pid) if f"--local_rank={number}" in each.cmdline())


def orphans(folder: Path) -> list[psutil.Process]:
    """Our processes that still run in a folder, whoever their parent is."""
    found = []
    for each in psutil.process_iter(["cwd", "cmdline", "status"]):
        about = each.info
        if (
            about["cwd"] == str(folder)
            and about["status"] != psutil.STATUS_ZOMBIE
            and each.pid != os.getpid()
        ):
            found.append(each)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [
        each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]


def wait_for(
    what: str, condition: Callable[[], object], folder: Path, seconds: float = PATIENCE
) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail(
                f"{what} did not come in {seconds:g} "
                f"s:\n{(folder / 'output.txt').read_text()[-5000:]}"
            )
        time.sleep(0.1)


def updates(folder: Path) -> int:
    """How far the run says that it is."""
    path = folder / "runs" / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    trained = [line for line in lines if line.startswith('{"kind": "train"') and line.endswith("}")]
    return json.loads(trained[-1])["update"] if trained else 0


def newest(folder: Path) -> int:
    kept = checkpoint.found(folder / "runs" / "run" / "checkpoints")
    return int(kept[-1].name.rpartition("-")[2]) if kept else -1


def test_a_runner_that_is_ended_alone_leaves_no_orphans(tmp_path: Path) -> None:
    """DeepSpeed's runner dies of a SIGTERM and passes nothing on: the ranks see that it has gone,
    save, and end."""
    with started(
        tmp_path, [sys.executable, "-m", "deepspeed.launcher.runner", *deepspeed_words()]
    ) as runner:
        wait_for("training", lambda: updates(tmp_path) >= 2, tmp_path)
        assert len(orphans(tmp_path)) == 4, "runner, launcher, two ranks"
        runner.send_signal(signal.SIGTERM)
        runner.wait(PATIENCE)
        wait_for("the end of all", lambda: not orphans(tmp_path), tmp_path)
    said = (tmp_path / "output.txt").read_text()
    assert (
        "stopped after the deepspeed command had gone" in said
        and said.count("exits successfully") == 2
    )
    assert newest(tmp_path) == updates(tmp_path) >= 2


def test_a_job_that_loses_a_rank_says_which_and_is_started_again(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "training.cli.main",
        "launch",
        "--max-restarts",
        "3",
        "--wait",
        "0",
        "--",
    ]
    with started(tmp_path, [*words, *deepspeed_words("--save-every", "3")]) as supervisor:
        wait_for("training", lambda: updates(tmp_path) >= 4, tmp_path)
        second = rank_of(supervisor.pid, 1)
        second.kill()
        output = tmp_path / "output.txt"
        wait_for("a restart", lambda: "restart 1 of 3 from update" in output.read_text(), tmp_path)
        assert f"rank 1 (process {second.pid} on " in output.read_text()
        before = newest(tmp_path)
        # Until it says where it goes on, the lines on disk are those of the start before.
        wait_for(
            "going on", lambda: f"going on after update {before}" in output.read_text(), tmp_path
        )
        wait_for("training after it", lambda: updates(tmp_path) > before + 1, tmp_path)
        supervisor.send_signal(signal.SIGINT)
        supervisor.wait(PATIENCE)
        assert not orphans(tmp_path)
    said = output.read_text()
    assert f"going on after update {before}" in said and "stopped after SIGINT" in said
    assert "not started again: it was told to stop (SIGINT)" in said
    assert newest(tmp_path) == updates(tmp_path)
