"""What turns gradients into updates, one optimizer a file, and the learning rate over a run."""

from training.optimizers.adafactor import Adafactor
from training.optimizers.adamw import AdamW
from training.optimizers.muon import Muon
from training.optimizers.schedule import Schedule
from training.optimizers.sgd import SGD
from training.optimizers.warmup import (
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupStableDecay,
)

__all__ = [
    "SGD",
    "Adafactor",
    "AdamW",
    "Muon",
    "Schedule",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupStableDecay",
]
