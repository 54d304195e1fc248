"""A training that somebody starts, with all its processes: who they are, how far they have come,
and whom a signal is sent to."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.harness.digest import ROOT
from training.checkpoints import checkpoint
from training.distributed.process_group import free_port
from training.runs.metrics import FILE

STARTERS = {
    "one process": ("process", "group", "twice"),
    "deepspeed": ("one rank", "all ranks", "launcher", "command", "group", "twice"),
    "ponder launch": ("one rank", "all ranks", "launcher", "command", "group", "twice"),
    "torchrun": ("one rank", "all ranks", "command", "group", "twice"),
}
"""How a training is started, and what a signal can be sent to then: `command` is the process that
the shell started, `launcher` deepspeed's own below it, `twice` the group two times at once."""
MOMENTS = ("starting", "training", "saving", "evaluating", "testing")
_SMALL = (
    *("pointer_chase", "--name", "run", "--data.length", "6", "--batch-size", "8"),
    *("--model.width", "16", "--model.num-heads", "2", "--loop.max-steps", "3"),
    *("--device", "cpu"),
)
_LONG = "4000000"
_LENGTHS = {
    "evaluating": ("--updates", "100000", "--eval-every", "4", "--eval-examples", _LONG),
    "testing": (*("--updates", "4", "--eval-every", "4"), *("--test-examples", _LONG)),
}
_AS_EVER = ("--updates", "100000", "--eval-every", "1000000")
PATIENCE = 120.0


class Job:
    """One start, in a session and a folder of its own.

    Args:
        starter: one of STARTERS.
        moment: one of MOMENTS, which the training is made for.
        folder: where it works.
    """

    def __init__(self, starter: str, moment: str, folder: Path):
        self.starter = starter
        self.moment = moment
        self.folder = folder
        self.run = folder / "runs" / "run"
        self.output = folder / "output.txt"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "PYTHONUNBUFFERED": "1",
        }
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *_words(starter, moment)],
                env=environment,
                cwd=folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def family(self) -> list[psutil.Process]:
        """Everything of it that runs, whoever its parent is now."""
        found = []
        for each in psutil.process_iter(["cwd", "status"]):
            if each.info["cwd"] == str(self.folder) and each.info["status"] != "zombie":
                found.append(each)
        return found

    def ranks(self) -> list[psutil.Process]:
        """Its ranks, in order; of one process that process."""
        if self.starter == "one process":
            return [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        found = {}
        for each in self.family():
            with contextlib.suppress(psutil.Error, KeyError):
                words = each.cmdline()
                if "deepspeed.launcher" not in " ".join(words) and "training.train" in words:
                    found[int(each.environ()["RANK"])] = each
        return [found[rank] for rank in sorted(found)]

    def updates(self) -> int:
        """The last update that is written down."""
        path = self.run / FILE
        last = 0
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                last = told["update"] if told["kind"] == "train" else last
        return last

    def saved(self) -> int:
        """The update of the newest whole checkpoint; -1 where there is none."""
        kept = checkpoint.found(self.run / "checkpoints")
        return int(kept[-1].name.rpartition("-")[2]) if kept else -1

    def come_to(self, moment: str) -> bool:
        """Waits until it is there; whether it came."""
        until = time.monotonic() + PATIENCE
        while not self._is_at(moment):
            if self.process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(0.0005 if moment == "saving" and self.updates() else 0.1)
        if moment in ("starting", "evaluating", "testing"):
            time.sleep(1.0)  # well into it
        return self.process.poll() is None

    def _is_at(self, moment: str) -> bool:
        if moment == "starting":
            # A process that Python has not made yet hears nothing: nobody can say anything then.
            ranks = self.ranks()
            wanted = 1 if self.starter == "one process" else 2
            return len(ranks) == wanted and all(_hears(each.pid) for each in ranks)
        if moment == "saving":
            return self.updates() > 0 and any((self.run / "checkpoints").glob(".partial-*"))
        return self.updates() >= (4 if moment in ("evaluating", "testing") else 3)

    def send(self, target: str, number: int) -> None:
        """Sends a signal to a target; processes that have gone get none."""
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if target in ("group", "twice"):
                os.killpg(self.process.pid, number)
                if target == "twice":
                    time.sleep(0.2)
                    os.killpg(self.process.pid, number)
            elif target in ("command", "process"):
                self.process.send_signal(number)
            elif target == "launcher":
                for each in self.family():
                    if "deepspeed.launcher.launch" in each.cmdline():
                        each.send_signal(number)
            else:
                for each in self.ranks()[1 if target == "one rank" else 0 :]:
                    each.send_signal(number)

    def wait(self) -> bool:
        """Waits until nothing of it runs; whether that came."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None or self.family():
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    def kill(self) -> None:
        """Ends what still runs of it."""
        for each in self.family():
            with contextlib.suppress(psutil.Error):
                each.kill()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def started(starter: str, moment: str, folder: Path) -> Iterator[Job]:
    """A job, of which nothing is left at the end, whatever happens."""
    job = Job(starter, moment, folder)
    try:
        yield job
    finally:
        job.kill()


def _words(starter: str, moment: str) -> list[str]:
    training = [*_SMALL, *_LENGTHS.get(moment, _AS_EVER)]
    if moment == "saving":
        training += ["--save-every", "2"]
    if starter == "one process":
        return ["-m", "training.cli.main", "train", *training]
    port = ["--master_port", str(free_port())]
    training += ["--deepspeed-config", str(ROOT / "ds_configs" / "zero2.json")]
    if starter == "torchrun":
        words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", *port]
        return [*words, "-m", "training.train", *training]
    launched = ["--num_gpus", "2", *port, "--module", "training.train", *training]
    if starter == "deepspeed":
        return ["-m", "deepspeed.launcher.runner", *launched]
    return ["-m", "training.cli.main", "launch", "--max-restarts", "1", "--", *launched]


def _hears(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    try:
        told = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    except (OSError, IndexError):
        return False
    return bool(int(told, 16) >> (signal.SIGTERM - 1) & 1)
