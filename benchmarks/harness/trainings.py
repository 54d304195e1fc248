"""Whole trainings as rows of a benchmark: each in a process of its own on one thread, kept as it
ends.

Rows that are done are not run again while their command is the same, so a benchmark that is stopped
goes on where it was. A training that is cut short leaves no row.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.digest import ROOT
from benchmarks.harness.hardware import hardware

RESULTS = ROOT / "benchmarks" / "results"
_QUICK = ("--updates", "60", "--eval-every", "60", "--eval-examples", "64", "--test-examples", "64")

Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """One training, or several of which each starts from the weights of the one before.

    Args:
        name: of the row.
        seed: of weights and data.
        stages: recipe and flags of each, beside `--seed`.
        quick: a few updates only: does it run at all?
    """

    name: str
    seed: int
    stages: tuple[tuple[str, ...], ...]
    quick: bool = False

    @property
    def commands(self) -> list[str]:
        """What a person would type, one line a stage."""
        lines = []
        for number, words in enumerate(self.stages):
            start = ("--start-from", "runs/FIRST") if number else ()
            lines.append(
                shlex.join(
                    ["ponder", "train", *words, *start, "--seed", str(self.seed), *self._short]
                )
            )
        return lines

    @property
    def _short(self) -> tuple[str, ...]:
        return _QUICK if self.quick else ()

    def run(self, children: "_Children", measure: Callable[[list[Path]], Row]) -> Row:
        """Trains; the row: who, how, on what, and what `measure` finds in the run folders of the
        stages."""
        row: Row = {"name": self.name, "seed": self.seed, "commands": self.commands, **hardware()}
        with tempfile.TemporaryDirectory() as folder:
            homes: list[Path] = []
            for number, words in enumerate(self.stages):
                start = ["--start-from", str(homes[-1])] if homes else []
                homes.append(Path(folder) / f"stage-{number}")
                place = ["--output", folder, "--name", homes[-1].name]
                command = [
                    sys.executable,
                    "-m",
                    "training.train",
                    *words,
                    *start,
                    "--seed",
                    str(self.seed),
                ]
                code, said = children.run([*command, *self._short, *place])
                if code:
                    return {**row, "failed": said[-500:]}
            return {**row, **measure(homes)}


class Kept:
    """The rows of a results file.

    Args:
        name: of the benchmark; quick rows have a file of their own.
        quick: whether these are they.
    """

    def __init__(self, name: str, quick: bool):
        self.path = RESULTS / (f"{name}-quick.jsonl" if quick else f"{name}.jsonl")

    def row(self, training: Training) -> Row | None:
        """The newest row of this training, made by the same commands; None where there is none."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        found = [row for row in map(json.loads, lines) if row["commands"] == training.commands]
        return found[-1] if found else None

    def keep(self, row: Row) -> None:
        """Writes a row down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def run_all(
    trainings: Sequence[Training], kept: Kept, workers: int, measure: Callable[[list[Path]], Row]
) -> Iterator[Row]:
    """The row of each training: those that are kept at once, the others as they end. Failed ones
    are not kept.

    Ctrl-C and SIGTERM end the trainings that run, and they leave no row.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    missing = []
    for training in trainings:
        row = kept.row(training)
        if row is None:
            missing.append(training)
        else:
            yield row
    children = _Children()
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(training.run, children, measure) for training in missing]
        try:
            for future in as_completed(futures):
                row = future.result()
                if "failed" not in row:
                    kept.keep(row)
                yield row
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children.end()
            raise


def run_and_tell(
    trainings: Sequence[Training], kept: Kept, workers: int, measure: Callable[[list[Path]], Row]
) -> list[Row]:
    """The rows of `run_all`, each of them printed as it comes: one line of JSON."""
    rows = []
    for row in run_all(trainings, kept, workers, measure):
        rows.append(row)
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return rows


class _Children:
    """The processes that run, each a group of its own: a Ctrl-C meant for the benchmark would have
    them save and end as if they were done."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(self, command: list[str]) -> tuple[int, str]:
        """Exit code and what it said on standard error."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with self._lock:
            if self._ended:
                return 1, "ended"
            child = subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(child)
        try:
            _, said = child.communicate()
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode, said

    def end(self) -> None:
        """Ends them all, and lets no other start."""
        with self._lock:
            self._ended = True
            for child in self._running:
                os.killpg(child.pid, signal.SIGKILL)
