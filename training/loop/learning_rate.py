"""The learning rate as a function of the update."""

import math

from training.config.sections import OptimizerConfig


def learning_rate(config: OptimizerConfig, update: float, updates: int) -> float:
    """Linear warm-up, then cosine, linear or no decay down to `final_fraction` of the peak at the
    last update.

    Args:
        config: peak and shape.
        update: counted from 0; between two where schedules are stretched.
        updates: how many there are in all.
    """
    if update < config.warmup:
        return config.learning_rate * (update + 1) / config.warmup
    if config.decay == "constant":
        return config.learning_rate
    progress = min(1.0, (update - config.warmup) / max(1, updates - config.warmup))
    fall = (1 + math.cos(math.pi * progress)) / 2 if config.decay == "cosine" else 1 - progress
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * fall)
