"""The seam of a schedule: an update in, a factor out."""

from abc import ABC, abstractmethod


class Schedule(ABC):
    """The learning rate as a share of its peak. A subclass's `__init__` arguments are the
    `--schedule.*` flags; one that is called `warmup` counts updates, and is shortened where a
    trial of a sweep is."""

    @abstractmethod
    def __call__(self, update: float, updates: int) -> float:
        """What the peak is multiplied by, 0 or more.

        Args:
            update: counted from 0; between two where schedules are stretched.
            updates: how many there are in all.
        """

    def rate(self, peak: float, update: float, updates: int) -> float:
        """The learning rate of an update.

        Args:
            peak: `--optimizer.learning-rate`.
            update, updates: as above.
        """
        return peak * self(update, updates)
