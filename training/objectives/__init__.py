"""What is minimised beside the ponder cost: one objective a file."""

from training.objectives.cross_entropy import CrossEntropy
from training.objectives.distillation import Distillation
from training.objectives.objective import Objective, Terms

__all__ = ["CrossEntropy", "Distillation", "Objective", "Terms"]
