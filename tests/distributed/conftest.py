"""Ranks as processes, each launch under a watchdog: a collective that waits for ever must not stop
the suite."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(
    0, str(HERE)
)  # the tests and their workers share tiny.py, whatever import mode pytest is in
LAUNCHER_NAMES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"),
)
"""What a launch sets by itself, and must not inherit from what ran before."""


@dataclass(frozen=True)
class Ended:
    """How one launched process ended."""

    code: int
    output: str


Launch = Callable[..., list[Ended]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launch(
    script: str,
    *arguments: object,
    folder: Path,
    ranks: int | None = 2,
    timeout: float = 120.0,
    ready: bool = True,
    before: Path | None = None,
) -> list[Ended]:
    """Runs a script of this folder as so many ranks (None: as one process without a launcher) on
    the CPU.

    Args:
        script: the file's name.
        arguments: its command line.
        folder: where the outputs are kept; extensions would be built in its `extensions`.
        ranks: how many.
        timeout: seconds after which every process of the launch is killed, by its own group.
        ready: fail where a rank ends with another code than 0.
        before: a folder whose modules come before the installed ones.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in LAUNCHER_NAMES}
    root = str(HERE.parent.parent)
    shared = {
        "PYTHONPATH": f"{before}{os.pathsep}{root}" if before else root,
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        "TORCH_EXTENSIONS_DIR": str(folder / "extensions"),
    }
    port, processes, logs = free_port(), [], []
    for rank in range(ranks or 1):
        own = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        environment = {
            **inherited,
            **shared,
            **({name: str(value) for name, value in own.items()} if ranks else {}),
        }
        logs.append(folder / f"{Path(script).stem}-{port}-{rank}.log")
        with logs[-1].open("w") as log:
            command = [sys.executable, str(HERE / script), *map(str, arguments)]
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=root,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        processes.append(process)
    until = time.monotonic() + timeout
    try:
        for process in processes:
            process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        for process in processes:
            process.send_signal(signal.SIGABRT)  # Python then writes where it stood
        time.sleep(1)
        pytest.fail(
            f"{script} took over {timeout} s:\n"
            + "\n".join(log.read_text()[-3000:] for log in logs)
        )
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    ended = [
        Ended(process.returncode, log.read_text())
        for process, log in zip(processes, logs, strict=True)
    ]
    if ready and any(each.code for each in ended):
        pytest.fail(
            "\n".join(
                f"rank {rank} ended with {each.code}:\n{each.output[-5000:]}"
                for rank, each in enumerate(ended)
            )
        )
    return ended


@pytest.fixture(scope="session")
def launch_ranks() -> Launch:
    return launch
