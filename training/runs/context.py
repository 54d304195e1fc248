"""What travels together through a training: from its start through the loop to its end."""

from dataclasses import dataclass, field
from pathlib import Path

from training.build import Built
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.screen import Screen
from training.distributed.stop_request import StopRequest
from training.engine.engine import Engine
from training.runs.metrics import Metrics
from training.runs.writer_lock import WriterLock


@dataclass(frozen=True)
class TrainingContext:
    """A run with all its parts: what the loop trains, and what is done at its end by `finish`, or
    for the figures of a sweep's trial.

    Args:
        config: the run.
        built: its task, model, cost and penalty.
        engine: runs the model.
        folder: the run folder.
        metrics, screen: where figures go; silent on all ranks but the first.
        progress: where the training starts; at its end, where it ended.
        stop_request: what may ask the training to stop.
        lock: of the folder; None where it is nobody else's to find.
    """

    config: RunConfig
    built: Built
    engine: Engine
    folder: Path
    metrics: Metrics
    screen: Screen
    progress: Progress
    stop_request: StopRequest = field(default_factory=StopRequest)
    lock: WriterLock | None = None
