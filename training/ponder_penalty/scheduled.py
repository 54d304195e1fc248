"""Penalties that the number of the update alone decides; one set by hand is the simplest."""

from abc import ABC, abstractmethod
from typing import Any

from halting.costs.cost import PonderCost
from training.ponder_penalty.penalty import Observed


class ScheduledPenalty(ABC):
    """Learns nothing from the training, has nothing to tell, and needs nothing to go on: who gives
    `coefficient` has given the whole of a `Penalty`."""

    @abstractmethod
    def coefficient(self, update: float) -> float:
        """The coefficient of update number `update`, counted from 0."""

    def observe(self, update: float, observed: Observed) -> None:
        """Nothing moves it but the updates."""

    def evaluated(self, update: float, ponder: float) -> None:
        """Nor does an evaluation."""

    def says(self) -> str | None:
        return None

    def summary(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


class ConstantPenalty(ScheduledPenalty):
    """A coefficient that is constant, or rises linearly from 0 over the first updates.

    A penalty that bites before the model has learned anything teaches it to stop at once; warming
    it up lets the task come first.

    Args:
        value: the coefficient.
        warmup: updates over which it rises.
    """

    def __init__(self, value: float, warmup: int = 0):
        self.value = value
        self.warmup = warmup

    def coefficient(self, update: float) -> float:
        return self.value if self.warmup <= 0 else self.value * min(1.0, update / self.warmup)


def coefficient(value: float | None, cost: PonderCost | None) -> float:
    """What one unit of this cost weighs in the end: `value` where one was configured, else as the
    cost itself says; 0 without a cost. Where a ramp or a target moves it, where it starts from."""
    if cost is None:
        return 0.0
    return cost.default_penalty if value is None else value
