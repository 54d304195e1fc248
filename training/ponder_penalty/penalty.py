"""The seam of a penalty: what one unit of ponder cost weighs in the next update, and what it learns
from the last."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Observed:
    """What an update measured, over the valid (or asked) tokens of the global batch: all ranks, all
    micro-batches.

    Args:
        ponder: mean depth that the rule means, in steps.
        task_loss: nats per position that has a target.
        rate: the learning rate of the update ÷ its peak.
    """

    ponder: float
    task_loss: float
    rate: float


class Penalty(Protocol):
    """What decides the coefficient of the ponder cost, update by update.

    All ranks hold one each and are told the same, so they agree without a word. What it keeps in
    `state_dict` goes into checkpoints as JSON; a penalty that is given it back goes on as if it had
    never stopped.
    """

    def coefficient(self, update: float) -> float:
        """The coefficient of update number `update`, counted from 0 and stretched where the run's
        schedules are; asked before each update."""
        ...

    def observe(self, update: float, observed: Observed) -> None:
        """What update number `update` measured; told once after each update."""
        ...

    def evaluated(self, update: float, ponder: float) -> None:
        """The mean ponder on unseen examples, in evaluation mode, after `update` updates; told now
        and then."""
        ...

    def says(self) -> str | None:
        """What a person should know by now, in words; None where all is well."""
        ...

    def summary(self) -> dict[str, Any]:
        """What it found, for summary.json; empty where there is nothing to tell."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs beside the update number: numbers, texts, None."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        ...
