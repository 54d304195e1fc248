"""Ranks as processes on one machine, under a watchdog: a collective that waits for ever must not
stop a benchmark."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness.digest import ROOT
from training.distributed.process_group import free_port

Processes = Sequence[subprocess.Popen[bytes]]


def start_ranks(
    module: str, arguments: Sequence[str], logs: Sequence[Path]
) -> list[subprocess.Popen[bytes]]:
    """Starts a module as ranks on the CPU, one thread each, each in a process group of its own.

    Args:
        module: as `python -m` takes it.
        arguments: its command line.
        logs: where each rank's output is added, a file a rank; it may be the same one.
    """
    shared = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        "WORLD_SIZE": str(len(logs)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            with log.open("ab") as out:
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, "-m", module, *arguments],
                        env=environment,
                        cwd=ROOT,
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
                )
    except BaseException:
        kill_ranks(ranks)
        raise
    return ranks


def kill_ranks(ranks: Processes, grace: float = 0.0) -> None:
    """Ends what still runs, each by its process group, after so many seconds in which all may end
    by themselves."""
    deadline = time.monotonic() + grace
    for rank in ranks:
        try:
            rank.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(rank.pid, signal.SIGKILL)
            rank.wait()


def launch(
    module: str,
    arguments: Sequence[str],
    ranks: int,
    log: Path,
    sign: Callable[[], object],
    patience: float,
) -> str:
    """Runs a module as so many ranks on the CPU, one thread each, until all end.

    Args:
        module: as `python -m` takes it.
        arguments: its command line.
        ranks: how many.
        log: where their outputs go.
        sign: gives another value whenever the ranks have come further.
        patience: seconds without such a sign after which all are killed.

    Returns:
        the end of the log where they failed or were killed; "" where they ended well.
    """
    log.write_bytes(b"")
    children = start_ranks(module, arguments, [log] * ranks)
    try:
        failed = _wait(children, sign, patience)
    finally:
        kill_ranks(children)
    return f"{failed}\n{log.read_text(errors='replace')[-4000:]}" if failed else ""


def _wait(children: Processes, sign: Callable[[], object], patience: float) -> str:
    """Until all ended well, or one failed, or there was no sign for too long; says which, "" for
    well."""
    last = sign()
    since = time.monotonic()
    while True:
        codes = [child.poll() for child in children]
        for rank, code in enumerate(codes):
            if code:
                return f"rank {rank} ended with {code}"
        if all(code == 0 for code in codes):
            return ""
        now = sign()
        if now != last:
            last = now
            since = time.monotonic()
        if time.monotonic() - since > patience:
            for child in children:
                child.send_signal(signal.SIGABRT)  # Python then writes where it stood
            time.sleep(1)
            return f"nothing happened for {patience:g} s"
        time.sleep(0.2)
