"""What turns gradients into updates: one optimizer a file."""

from training.optimizers.adafactor import Adafactor
from training.optimizers.adamw import AdamW
from training.optimizers.cpu_adam import CPUAdam
from training.optimizers.muon import Muon
from training.optimizers.sgd import SGD

__all__ = ["SGD", "Adafactor", "AdamW", "CPUAdam", "Muon"]
