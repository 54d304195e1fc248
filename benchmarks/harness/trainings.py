"""Whole trainings as rows of a benchmark: each in a process of its own on one thread, kept as it
ends.

Rows that are done are not run again while their command and the code are the same, so a benchmark
that is stopped goes on where it was. A training that is cut short leaves no row.
"""

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cli import open_rows
from benchmarks.harness.digest import PACKAGES, ROOT, code_digest
from benchmarks.harness.rows import Row
from halting.errors import UsageError

_QUICK = ("--updates", "60", "--eval-every", "60", "--eval-examples", "64", "--test-examples", "64")


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
        row: Row = {"name": self.name, "seed": self.seed, "commands": self.commands}
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


class TrainingRows:
    """Runs the trainings that have no row yet, and keeps their rows.

    Args:
        name: of the benchmark and its results file.
        options: from `make_parser` and `add_training_arguments`.
        measure: the figures of a row, from the run folders of its stages. The file where it stands
            is part of the code that rows depend on, beside the packages.
        also: more such files.
    """

    def __init__(
        self,
        name: str,
        options: Namespace,
        measure: Callable[[list[Path]], Row],
        also: Sequence[str] = (),
    ):
        self.options = options
        self.measure = measure
        places = [Path(__file__), Path(inspect.getfile(measure))]
        own = [place.resolve().relative_to(ROOT).as_posix() for place in places]
        self.rows = open_rows(name, options, code_digest(*PACKAGES, *own, *also))
        self._of_other_code = 0
        self._of_other_commands = 0

    def run(self, trainings: Sequence[Training]) -> Iterator[Row]:
        """The row of each training: those that are kept at once, the others as they end. Failed
        ones are not kept. With --kept, the newest row of each name and seed.

        Ctrl-C and SIGTERM end the trainings that run, and they leave no row.

        Raises:
            UsageError: with --kept, where there is no row of one of them.
        """
        if self.options.kept:
            yield from self._kept(trainings)
            return
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        missing = []
        for training in trainings:
            row = self.rows.find(commands=training.commands)
            if row is None:
                missing.append(training)
            else:
                yield row
        children = _Children()
        with ThreadPoolExecutor(self.options.workers) as pool:
            futures = [pool.submit(training.run, children, self.measure) for training in missing]
            try:
                for future in as_completed(futures):
                    row = future.result()
                    yield row if "failed" in row else self.rows.add(row)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                children.end()
                raise

    def run_and_print(self, trainings: Sequence[Training]) -> list[Row]:
        """The rows of `run`, each of them printed as it comes: one line of JSON."""
        rows = []
        for row in self.run(trainings):
            rows.append(row)
            print(json.dumps(row, ensure_ascii=False), flush=True)
        return rows

    def provenance(self) -> str:
        """Where the rows of --kept come from, in words; "" without it."""
        if not self.options.kept:
            return ""
        return (
            f"kept rows: {self._of_other_code} by other code than this, {self._of_other_commands} "
            "by another command"
        )

    def _kept(self, trainings: Sequence[Training]) -> Iterator[Row]:
        for training in trainings:
            row = self.rows.newest(name=training.name, seed=training.seed)
            if row is None:
                raise UsageError(
                    f"--kept finds no row of {training.name!r}, seed {training.seed}.",
                    f"{self.rows.path or 'A quick run without --results'} keeps none.",
                    "Ask for what is there, or leave --kept out and have it trained.",
                )
            self._of_other_code += row.get("code") != self.rows.made_by["code"]
            self._of_other_commands += row["commands"] != training.commands
            yield row


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
