"""What runs a model: the reference engine on one process, and DeepSpeed's."""

from training.distributed.process_group import start, stop, under_launcher
from training.engine.engine import Engine, StepResult
from training.engine.local import LocalEngine
from training.engine.zero import DeepSpeedEngine

__all__ = [
    "DeepSpeedEngine",
    "Engine",
    "LocalEngine",
    "StepResult",
    "start",
    "stop",
    "under_launcher",
]
