"""A penalty that is told by the number of the update alone."""

from abc import ABC, abstractmethod
from typing import Any

from training.ponder_penalty.penalty import Observed


class ScheduledPenalty(ABC):
    """Learns nothing from the training, has nothing to tell, and needs nothing to go on: who gives
    `coefficient` has given the whole of a `Penalty`."""

    @abstractmethod
    def coefficient(self, update: float) -> float:
        """The coefficient of update number `update`, counted from 0."""

    def observe(self, update: float, observed: Observed) -> None:
        """Nothing moves it but the updates."""

    def says(self) -> str | None:
        return None

    def summary(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""
