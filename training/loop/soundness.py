"""Whether weights are worth a checkpoint."""

import math

from training.checkpoints import checkpoint
from training.distributed import collectives
from training.engine.engine import Engine
from training.evaluation.evaluate import evaluate
from training.tasks.task import Task


def is_sound(engine: Engine, task: Task) -> bool:
    """Whether the weights, and an answer that they give, are finite on all ranks."""
    if not checkpoint.has_finite_weights(engine):
        return False
    probe = evaluate(engine, task, "validation", collectives.world_size(), 1)
    return math.isfinite(probe.figures()["loss"])
