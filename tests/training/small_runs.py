"""Runs of a second or two, for tests."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from torch import nn

from halting import GravesACT, HaltingRule
from training.build import build_all
from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.runs.loaded import Run
from training.start import train
from training.tasks import PointerChase
from training.tasks.task import Batch

SMALL: dict[str, Any] = {
    "recipe": "pointer_chase",
    "data": {"kind": "PointerChase", "options": {"length": 6}},
    "model": {"width": 16, "num_heads": 2, "positions": "learned"},
    "loop": {"max_steps": 4},
    "updates": 12,
    "batch_size": 8,
    "eval_every": 5,
    "eval_examples": 16,
    "test_examples": 16,
    "save_every": 4,
    "map_every": 1,
    "penalty": {"value": 0.01, "warmup": 6},
}


def small(output: Path, **changes: Any) -> RunConfig:
    """A run of 12 updates."""
    return RunConfig(**{**SMALL, "output": str(output), **changes})


def train_only(config: RunConfig, resume: Path | None = None) -> int:
    """Trains, and leaves out what is drawn and written at the end, which takes longer than the
    training: for tests that look at losses, checkpoints or weights. A run without final weights is
        loaded from its last checkpoint."""
    return train(config, resume, finishing=lambda trained: None)


def stands_at(folder: Path) -> dict[str, Any]:
    """The progress in a run's last checkpoint."""
    newest = checkpoint.found(folder / "checkpoints")[-1]
    return json.loads((newest / "progress.json").read_text())


def losses(folder: Path) -> dict[int, float]:
    """The loss of each update that a run has written down."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["update"]: line["loss"] for line in lines if line["kind"] == "train"}


class Signalling(PointerChase):
    """Sends this process a signal when a certain training example is first asked for: a Ctrl-C in
    the middle of a step."""

    def __init__(
        self, length: int = 6, at: int = 40, number: int = int(signal.SIGINT), seed: int = 0
    ):
        super().__init__(length, seed=seed)
        self.at, self.number, self.sent = at, number, False

    def batch(self, split: str, index: int, size: int) -> Batch:
        if split == "train" and index <= self.at < index + size and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)
        return super().batch(split, index, size)


class Namesake(GravesACT):
    """Another rule, whose parameters have the names and shapes of those of GravesACT."""


def run_of(folder: Path, **changes) -> Run:
    """A run that was never trained, in float64, whose tokens leave at several different steps."""
    config = small(folder, **{"loop": {"max_steps": 6}, **changes})
    built = build_all(config)
    model = built.model.double().eval()
    for parameter in model.recurrence.rule.parameters():
        nn.init.normal_(parameter, std=0.4)
    return Run(folder, config, built.task, model, folder / "weights")


def rule_of(run: Run) -> HaltingRule:
    """The rule that a run's model halts by now."""
    return run.model.recurrence.rule
