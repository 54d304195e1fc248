"""Output whose reader may go: long work goes on without it."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ESTALE)
"""A pipe that nobody reads any more (`| head -2`), a terminal that was closed, a file that went."""


class SteadyStream:
    """Writes to a stream as long as that can be written; afterwards to nowhere, without a word to
    whoever writes. Of a disk that is full some text is lost, and later text is not.

    Args:
        stream: which; None is a stream that was closed before Python began (`>&-`).
        told: is told once, in words, when it can't be written any more.
    """

    def __init__(self, stream: TextIO | None, told: "SteadyStream | TextIO | None" = None):
        self._own = open(os.devnull, "w", encoding="utf-8") if stream is None else None  # noqa: SIM115
        self._stream: TextIO = stream or self._own  # pyright: ignore[reportAttributeAccessIssue]
        self._told = told

    def write(self, text: str) -> int:
        """Writes, or does not; gives the number of characters as if it had."""
        with self._survives():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes, or does not."""
        with self._survives():
            self._stream.flush()

    def close(self) -> None:
        """Closes what was opened here; the stream is somebody else's."""
        if self._own is not None:
            self._own.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _survives(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _GONE:
                to_nowhere(self._stream)
                if self._told is not None:
                    print(
                        f"note: nobody reads the output any more ({error.strerror}); the work goes "
                        "on without it",
                        file=self._told,
                        flush=True,
                    )


def to_nowhere(stream: TextIO) -> None:
    """What a stream still holds, and what others write to its descriptor, goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def steady_output() -> Iterator[None]:
    """Within it, whoever reads standard output or the error stream may go."""
    before = sys.stdout, sys.stderr
    errors = SteadyStream(sys.stderr)
    output = SteadyStream(sys.stdout, errors)
    sys.stdout, sys.stderr = output, errors  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
        output.flush()
    finally:
        sys.stdout, sys.stderr = before
        output.close()
        errors.close()


def replace_unknown_characters() -> None:
    """From here on, characters that an encoding lacks (PYTHONIOENCODING=ascii, LC_ALL=C) come out
    as "?", and end nothing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's or a test's stream has none
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
