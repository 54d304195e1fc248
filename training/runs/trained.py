"""A run that has trained all it was asked to, with all its parts still there."""

from dataclasses import dataclass
from pathlib import Path

from training.build import Built
from training.checkpoints.checkpoint import Progress
from training.config.run_config import RunConfig
from training.console.screen import Screen
from training.engine.engine import Engine
from training.runs.metrics import Metrics


@dataclass(frozen=True)
class Trained:
    """What is done at the end of a run is done with this: `finish`, or the figures of a sweep's
    trial.

    Args:
        config: the run.
        built: its task, model and cost.
        engine: runs the trained model.
        folder: the run folder.
        screen, metrics: where figures go; silent on all ranks but the first.
        progress: where the training ended.
    """

    config: RunConfig
    built: Built
    engine: Engine
    folder: Path
    screen: Screen
    metrics: Metrics
    progress: Progress
