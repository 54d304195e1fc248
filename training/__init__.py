"""Training looped Transformers: recipes, engines, checkpoints, evaluation; `load_run` reads a run
back, `apply_exit` lets its tokens leave another way."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.config.model_part import ModelPart
    from training.config.run_config import RunConfig
    from training.config.sections import HaltingPart, Part
    from training.exits.calibrated import apply_exit
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
    "apply_exit",
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
    "apply_exit": "training.exits.calibrated",
    "load_run": "training.runs.loaded",
}


def __getattr__(name: str):
    # Late, so that importing one part of the package doesn't import all of it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
