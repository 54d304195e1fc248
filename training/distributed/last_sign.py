"""When all ranks last answered, and what they have been doing since: ranks go from one collective
to the next together, so each knows it of all."""

import time


class LastSign:
    """What this process waits in, or computes.

    Attributes:
        doing: what, in words; "starting up" before anything is marked.
        longest: seconds between two marks, so far.
    """

    def __init__(self) -> None:
        self.doing = "starting up"
        self.longest = 0.0
        self._since = time.monotonic()

    def mark(self, doing: str) -> None:
        """All ranks have answered; from now on this is done."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self._since)
        self.doing = doing
        self._since = now

    @property
    def ago(self) -> float:
        """Seconds since the last mark."""
        return time.monotonic() - self._since


LAST_SIGN = LastSign()
"""Of this process."""
