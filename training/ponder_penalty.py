"""The penalty: what one unit of ponder cost weighs in the loss."""

from halting.costs.cost import PonderCost
from training.config import PenaltyConfig


def coefficient(config: PenaltyConfig, cost: PonderCost | None) -> float:
    """What one unit of this cost weighs in the end: as configured, else as the cost itself says; 0 without a cost."""
    if cost is None:
        return 0.0
    return cost.default_penalty if config.value is None else config.value


class PonderPenalty:
    """A coefficient that is constant, or rises linearly from 0 over the first updates.

    A penalty that bites before the model has learned anything teaches it to stop at once; warming it up lets the task
    come first.

    Args:
        config: value and warm-up.
        cost: what it weighs.
    """

    def __init__(self, config: PenaltyConfig, cost: PonderCost | None):
        self.value, self.warmup = coefficient(config, cost), config.warmup

    def at(self, update: float) -> float:
        """The coefficient of update number `update`, counted from 0."""
        return self.value if self.warmup <= 0 else self.value * min(1.0, update / self.warmup)

    def state_dict(self) -> dict:
        """What resuming needs beside the update number."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restores `state_dict`."""
