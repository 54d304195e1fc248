"""The learning rate over a run: one schedule a file."""

from training.optimizers.schedules.schedule import Schedule
from training.optimizers.schedules.warmup import (
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupStableDecay,
)

__all__ = ["Schedule", "WarmupConstant", "WarmupCosine", "WarmupLinear", "WarmupStableDecay"]
