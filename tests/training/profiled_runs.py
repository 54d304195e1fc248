"""Runs to profile, never trained, and the rules and modes they are profiled with."""

from pathlib import Path
from typing import Any

import torch
from small_runs import small
from torch import nn

from training.build import build_all
from training.config.run_config import RunConfig
from training.runs.loaded import Run

PONDER = {"kind": "PonderNet", "options": {"bias_init": -1.0}}
MODES = {"inference": False, "training": True}


def run_of(config: RunConfig) -> Run:
    """A run that was never trained, whose tokens leave at several different steps."""
    built = build_all(config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in built.model.recurrence.rule.parameters():
            nn.init.normal_(parameter, mean=-0.1, std=0.4)
    return Run(Path("runs/never"), config, built.task, built.model.eval(), Path("weights"))


def small_run(tmp_path: Path, **changes: Any) -> Run:
    return run_of(small(tmp_path, **{"loop": {"max_steps": 6}, **changes}))
