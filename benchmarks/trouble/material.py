"""What the cases start from: one small run, made by the code that is judged."""

import json
import shutil
from pathlib import Path

from benchmarks.trouble.case import Case
from benchmarks.trouble.forked import run_cases
from benchmarks.trouble.rules import BATCH, HEADS, MAX_STEPS, UPDATES, WIDTH
from halting.errors import UsageError

NUMBERS = (
    ("updates", UPDATES),
    ("batch-size", BATCH),
    ("eval-every", 10),
    ("eval-examples", 4),
    ("test-examples", 8),
    ("save-every", 10),
    ("data.length", 4),
    ("model.width", WIDTH),
    ("model.num-heads", HEADS),
    ("loop.max-steps", MAX_STEPS),
    ("penalty.warmup", 5),
    ("schedule.warmup", 5),
    ("device", "cpu"),
)
SMALL = ("parity", *(word for name, value in NUMBERS for word in (f"--{name}", str(value))))
"""The words of the smallest training: parity of four bits, twenty updates."""
CANARY = '''"""Leaves a marker wherever it is imported."""
import os, pathlib
pathlib.Path(os.environ.get("CANARY", "EXECUTED")).write_text("imported")
from halting.rules.graves_act import GravesACT
from training.tasks.parity import Parity

class Canary(GravesACT):
    """A rule."""

class Task(Parity):
    """A task."""
'''
"""A module of a stranger's: what it defines works, and importing it is seen."""


class Material:
    """A run to be damaged.

    Args:
        work: a folder for it; made here, once.
    """

    def __init__(self, work: Path):
        self.run = work / "material" / "runs" / "base"
        if not (self.run / "summary.json").exists():
            shutil.rmtree(work / "material", ignore_errors=True)
            self._make(work)
        self.config = json.loads((self.run / "config.json").read_text(encoding="utf-8"))

    def _make(self, work: Path) -> None:
        output = self.run.parent
        output.mkdir(parents=True)
        words = ("train", *SMALL, "--output", str(output), "--name", "base")
        for _, ended, _ in run_cases([Case("material", 0, "", words)], work):
            if ended.code != 0:
                raise UsageError(
                    "The run that the cases start from could not be trained.",
                    ended.said[-1000:],
                    "Mend that first: python -m training.train " + " ".join(SMALL),
                )

    def copy(self, place: Path) -> None:
        """The run as `runs/base` in a case's folder."""
        shutil.copytree(self.run, place / "runs" / "base")


def with_canary(place: Path) -> None:
    """A stranger's module in a case's folder."""
    (place / "canary.py").write_text(CANARY)
