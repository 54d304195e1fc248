"""A sign of life before there is anything to tell: libraries take their time to load, and a block
to compile."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_FIRST = 2.0
_AGAIN = 30.0
_CLEAR = "\r\x1b[K"


class StartupSign:
    """Says on the error stream what a program is at, from its third second on: on a terminal a live
    line, elsewhere a line every half minute.

    Args:
        out: where to.
        first, again: seconds until it is said, and said again.
    """

    def __init__(self, out: TextIO, first: float = _FIRST, again: float = _AGAIN):
        self._out = out
        self._live = out.isatty()
        self._first = first
        self._again = 1.0 if self._live else again
        self._doing = "loading torch"
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def doing(self, what: str) -> None:
        """From now on this is what it is at."""
        self._doing = what

    def end(self) -> None:
        """There is something to tell now."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()

    def _tell(self) -> None:
        wait = self._first
        said = False
        while not self._ended.wait(wait):
            seconds = time.monotonic() - self._began
            text = f"starting: {self._doing} … ({seconds:.0f} s)"
            with contextlib.suppress(OSError, ValueError):
                self._out.write(f"{_CLEAR}{text}" if self._live else f"{text}\n")
                self._out.flush()
            said = True
            wait = self._again
        if said and self._live:
            with contextlib.suppress(OSError, ValueError):
                self._out.write(_CLEAR)
                self._out.flush()


_sign: StartupSign | None = None


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """While it is entered, and until `end`, signs of life are given."""
    global _sign
    _sign = StartupSign(sys.stderr)
    try:
        yield
    finally:
        end()


def doing(what: str) -> None:
    """What this process is at, where signs are given."""
    if _sign is not None:
        _sign.doing(what)


def end() -> None:
    """No more signs: there is something to tell."""
    global _sign
    if _sign is not None:
        _sign.end()
        _sign = None
