"""Training looped Transformers: recipes, engines, checkpoints, evaluation. `fit` trains, `load_run`
reads a run back, `apply_exit` lets its tokens leave another way."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.cli.fitting import (
        TrainingCollapsed,
        TrainingFailed,
        TrainingLost,
        TrainingStopped,
        fit,
    )
    from training.config.model_part import ModelPart
    from training.config.run_config import RunConfig
    from training.config.sections import HaltingPart, Part
    from training.exits.calibrated import apply_exit
    from training.recipes.load import load_recipe
    from training.runs.loaded import Run, load_run
    from training.tasks.task import Batch, Task

__all__ = [
    "Batch",
    "HaltingPart",
    "ModelPart",
    "Part",
    "Run",
    "RunConfig",
    "Task",
    "TrainingCollapsed",
    "TrainingFailed",
    "TrainingLost",
    "TrainingStopped",
    "apply_exit",
    "fit",
    "load_recipe",
    "load_run",
]

_HOMES = {
    "Batch": "training.tasks.task",
    "HaltingPart": "training.config.sections",
    "ModelPart": "training.config.model_part",
    "Part": "training.config.sections",
    "Run": "training.runs.loaded",
    "RunConfig": "training.config.run_config",
    "Task": "training.tasks.task",
    "TrainingCollapsed": "training.cli.fitting",
    "TrainingFailed": "training.cli.fitting",
    "TrainingLost": "training.cli.fitting",
    "TrainingStopped": "training.cli.fitting",
    "apply_exit": "training.exits.calibrated",
    "fit": "training.cli.fitting",
    "load_recipe": "training.recipes.load",
    "load_run": "training.runs.loaded",
}


def __getattr__(name: str):
    # Late, so that importing one part of the package doesn't import all of it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
