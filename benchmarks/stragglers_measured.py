"""Two real ranks that train by order and by a prediction: what they waited."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trainings import ROOT
from training.metrics import read

RANKS, MICRO_BATCH = 2, 8
FLAGS = (
    *("addition", "--model.width", "256", "--optimizer.learning-rate", "0.0005", "--penalty.warmup", "0"),
    *("--batch-size", str(RANKS * MICRO_BATCH), "--threads", "1", "--eval-examples", "16", "--test-examples", "16"),
)
_WATCHDOG = 900.0


@dataclass(frozen=True)
class Measured:
    """One training on two ranks, after its first half.

    Args:
        deal_by: how it dealt.
        evenness: mean ÷ slowest rank's token-steps.
        evenness_of_seconds: the same of the processor's seconds.
        waited: the share of the ranks' time in which they did not compute.
        seconds: of training, all ranks together.
        losses: of every update.
    """

    deal_by: str
    evenness: float
    evenness_of_seconds: float
    waited: float
    seconds: float
    losses: list[float]


def measure(deal_by: str, updates: int) -> Measured:
    """Trains on two ranks under ZeRO-1.

    Raises:
        RuntimeError: where a rank fails, or takes too long.
    """
    words = [*FLAGS, "--updates", str(updates), "--eval-every", str(updates // 2), "--deal-by", deal_by]
    with tempfile.TemporaryDirectory() as folder:
        place = ["--output", folder, "--name", "run"]
        _launch([*words, *place, "--deepspeed-config", str(ROOT / "ds_configs" / "zero1.json")], Path(folder))
        last = read(Path(folder) / "run", "ranks")[-1]
        losses = [line["loss"] for line in read(Path(folder) / "run", "train")]
    computing, waiting = sum(last["computing"]), sum(last["waiting"])
    seconds = computing + waiting
    return Measured(deal_by, last["evenness"], last["evenness_of_seconds"], waiting / seconds, seconds, losses)


def _launch(words: Sequence[str], folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    logs = [folder / f"rank-{rank}.log" for rank in range(RANKS)]
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
            with log.open("wb") as out:
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "training.train", *words],
                        env={**os.environ, **shared, **own},
                        cwd=ROOT,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        until = time.monotonic() + _WATCHDOG
        while any(rank.poll() is None for rank in ranks):
            if time.monotonic() > until or any(rank.poll() for rank in ranks):
                break  # one that has failed leaves the other waiting
            time.sleep(0.2)
    finally:
        for rank in ranks:
            if rank.poll() is None:
                os.killpg(rank.pid, signal.SIGKILL)
                rank.wait()
    if any(rank.returncode for rank in ranks):
        said = "\n".join(log.read_text(encoding="utf-8", errors="replace")[-800:] for log in logs)
        raise RuntimeError(f"the ranks ended with {[rank.returncode for rank in ranks]}:\n{said}")
