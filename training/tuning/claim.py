"""What a sweep's trials have in common, and one of them while a process trains it."""

from dataclasses import dataclass
from typing import IO

from training.tuning.space import Point


@dataclass(frozen=True)
class Settings:
    """What all trials of a sweep have in common, from its first process to its last.

    Args:
        recipe: what is trained.
        fixed: flags of all trials, as words.
        budget: of a trial, as `TrialBudget.read` takes it; None for the recipe's own updates.
        quality: the figure on the quality's axis.
    """

    recipe: str
    fixed: tuple[str, ...]
    budget: str | None
    quality: str


@dataclass(frozen=True)
class Claim:
    """A trial that this process trains.

    Args:
        number: of the trial.
        point: its setting.
        seed: of weights and data.
        held: the lock, as long as it is open.
    """

    number: int
    point: Point
    seed: int
    held: IO[str]
