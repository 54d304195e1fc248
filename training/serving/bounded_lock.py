"""Takes turns at something that one can use at a time: who comes waits, but not more than so
many."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Busy(Exception):
    """Too many wait already."""


class BoundedLock:
    """A lock with a queue that is bounded.

    Args:
        most_waiting: how many may wait while another has its turn.
    """

    def __init__(self, most_waiting: int):
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(most_waiting + 1)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for its turn.

        Raises:
            Busy: at once, where the queue is full.
        """
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            with self._lock:
                yield
        finally:
            self._places.release()

    def last(self, seconds: float) -> bool:
        """Takes the turn for good, once nobody has it; False where that takes longer."""
        return self._lock.acquire(timeout=seconds)
