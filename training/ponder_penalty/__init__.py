"""The penalty: what one unit of ponder cost weighs in the loss. By hand, on a ramp, or moved to
hold a target."""

from training.ponder_penalty.check import check_penalty
from training.ponder_penalty.penalty import Observed, Penalty
from training.ponder_penalty.scheduled import ConstantPenalty, coefficient
from training.ponder_penalty.step_target import read_target

__all__ = [
    "ConstantPenalty",
    "Observed",
    "Penalty",
    "check_penalty",
    "coefficient",
    "read_target",
]
