"""What runs a model: the reference engine on one process, and DeepSpeed's."""

from training.distributed.process_group import start, stop, under_launcher
from training.engine.engine import Engine, StepResult, parameter_groups
from training.engine.local import LocalEngine
from training.engine.zero import DeepSpeedEngine

__all__ = [
    "DeepSpeedEngine",
    "Engine",
    "LocalEngine",
    "StepResult",
    "parameter_groups",
    "start",
    "stop",
    "under_launcher",
]
