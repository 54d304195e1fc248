"""Who is connected to a server, and who has to go so that another can come."""

import contextlib
import io
import socket
import threading
import time
from dataclasses import dataclass, field

GRACE = 1.0
"""Seconds in which a connection that waits for its request is not closed in another's favour."""


@dataclass
class _Connected:
    """One connection.

    Args:
        host: the address that it comes from.
        since: when it began to wait for its request; None while it is answered.
    """

    host: str
    since: float | None = field(default_factory=time.monotonic)


class Connections:
    """Counts connections, in all and from one address.

    Where there are too many, the one that has waited longest for its request is closed in favour of
    the new one: who sends a byte a second, or nothing, keeps nobody out.

    Args:
        most: in all.
        most_of_one: of one address.
    """

    def __init__(self, most: int, most_of_one: int):
        self.most = most
        self.most_of_one = most_of_one
        self._lock = threading.Lock()
        self._all: dict[socket.socket, _Connected] = {}

    def admit(self, connection: socket.socket, host: str) -> bool:
        """Lets a connection in; False where it has to be closed, as all others are busy."""
        with self._lock:
            of_one = [each for each, about in self._all.items() if about.host == host]
            if len(of_one) >= self.most_of_one:
                admitted = self._close_longest(of_one)
            else:
                admitted = len(self._all) < self.most or self._close_longest(list(self._all))
            if admitted:
                self._all[connection] = _Connected(host)
        return admitted

    def waits(self, connection: socket.socket) -> None:
        """It waits for its next request."""
        self._mark(connection, time.monotonic())

    def is_answered(self, connection: socket.socket) -> None:
        """Its request is there, whole."""
        self._mark(connection, None)

    def leave(self, connection: socket.socket) -> None:
        """It is closed."""
        with self._lock:
            self._all.pop(connection, None)

    def _mark(self, connection: socket.socket, since: float | None) -> None:
        with self._lock:
            if (about := self._all.get(connection)) is not None:
                about.since = since

    def _close_longest(self, among: list[socket.socket]) -> bool:
        """Closes the one among these that has waited longest, if any has waited beyond `GRACE`."""
        waiting = {each: since for each in among if (since := self._all[each].since) is not None}
        longest = min(waiting, key=waiting.__getitem__, default=None)
        if longest is None or time.monotonic() - waiting[longest] < GRACE:
            return False
        del self._all[longest]
        with contextlib.suppress(OSError):
            longest.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and leaves
        return True


class TimedReader(io.RawIOBase):
    """Reads from a socket until a moment, however little comes at a time.

    Args:
        connection: the socket.
    """

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._until = 0.0

    def allow(self, seconds: float) -> None:
        """What comes has to come within these seconds from now."""
        self._until = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """As many bytes as are there.

        Raises:
            TimeoutError: where the time is over.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)
