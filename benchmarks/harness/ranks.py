"""Ranks as processes on one machine, under a watchdog: a collective that waits for ever must not
stop a benchmark."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.digest import ROOT
from training.distributed.process_group import free_port


def launch(
    module: str,
    arguments: list[str],
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
    shared = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        "WORLD_SIZE": str(ranks),
    }
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    children: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as out:
        try:
            for rank in range(ranks):
                environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                command = [sys.executable, "-m", module, *arguments]
                children.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        cwd=ROOT,
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
                )
            failed = _wait(children, sign, patience)
        finally:
            for child in children:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
    return f"{failed}\n{log.read_text(errors='replace')[-4000:]}" if failed else ""


def _wait(
    children: list[subprocess.Popen[bytes]], sign: Callable[[], object], patience: float
) -> str:
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
