"""Documents as a stream of pieces: a corpus is never in memory, and no document is whole either."""

import contextlib
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from halting.errors import UsageError
from training.console.text_fault import MARK, first_fault
from training.data.records import rows_of_dataset, rows_of_parquet, text_of_line
from training.data.sources import Source

SEGMENT = 1 << 20
"""Bytes of a piece at the most; a longer document is tokenised in pieces, cut at line ends."""
LONGEST_LINE = 1 << 27
"""Bytes of a line of JSON at the most, which has to be in memory whole."""

Errors = Literal["strict", "replace", "skip"]


class Segment(NamedTuple):
    """A piece of a document.

    Args:
        text: UTF-8; no character is divided, and none is NUL.
        first, last: whether the document begins and ends with it.
    """

    text: bytes
    first: bool
    last: bool


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        field: which value of a line of JSON, or column, is the text.
        separator: what divides a text file into documents; None: a file is one.
        errors: what becomes of bytes that are not UTF-8, and of NULs: "strict" refuses them,
            "replace" writes U+FFFD, "skip" drops them.
    """

    field: str = "text"
    separator: str | None = None
    errors: Errors = "strict"


class Digest:
    """SHA-256 of all bytes of a file, taken while it is read.

    Attributes:
        size: bytes so far.
    """

    def __init__(self):
        self._sum = hashlib.sha256()
        self.size = 0

    def update(self, data: Any) -> None:
        """More of them."""
        self._sum.update(data)
        self.size += len(data)

    def text(self) -> str:
        """Hexadecimal."""
        return self._sum.hexdigest()


def segments(source: Source, reading: Reading, digest: Digest | None = None) -> Iterator[Segment]:
    """The documents of a file, one after the other; the same pieces whenever it is read.

    Args:
        source: the file.
        reading: how.
        digest: gets all bytes that are read.

    Raises:
        UsageError: for what is not text in UTF-8 or not as its name says, with its place.
    """
    try:
        if source.kind in ("parquet", "dataset"):
            rows = rows_of_parquet if source.kind == "parquet" else rows_of_dataset
            for place, text in rows(source.path, reading.field, digest):
                yield from _sliced(_encoded(text, place, reading.errors))
            return
        with _opened(source, digest) as stream:
            if source.kind == "lines":
                for place, line in _lines(stream, source.path):
                    text = text_of_line(line, place, reading.field)
                    yield from _sliced(_encoded(text, place, reading.errors))
            else:
                pieces = _pieces(stream, source.path, reading.errors)
                if reading.separator is None:
                    yield from _as_one(pieces)
                else:
                    yield from _divided(pieces, reading.separator.encode())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _broken(source, error) from None
    except OSError as error:
        raise UsageError(
            f"{source.path} cannot be read: {error.strerror or error}.",
            "It belongs to the corpus.",
            "Mend it, or leave it out.",
        ) from None


@contextlib.contextmanager
def _opened(source: Source, digest: Digest | None) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(source.path, "rb", buffering=0))
        raw = file if digest is None else _Told(file, digest)
        stream: Any = io.BufferedReader(raw, 1 << 18)  # pyright: ignore[reportArgumentType]
        if source.packed == "gzip":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif source.packed == "zstd":
            import zstandard  # late: an extra

            frames = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
            stream = io.BufferedReader(_Zstd(frames, source), 1 << 18)  # pyright: ignore[reportArgumentType]
        yield stream


class _Told(io.RawIOBase):
    """A file whose bytes are told to a digest as they are read."""

    def __init__(self, file: Any, digest: Digest):
        self._file = file
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        number = self._file.readinto(buffer)
        self._digest.update(memoryview(buffer)[:number])
        return number


class _Zstd(io.RawIOBase):
    """Unpacked bytes; what is damaged is refused."""

    def __init__(self, frames: Any, source: Source):
        self._frames = frames
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zstandard

        try:
            return self._frames.readinto(buffer)
        except zstandard.ZstdError as error:
            raise _broken(self._source, error) from None


def _broken(source: Source, error: Exception) -> UsageError:
    return UsageError(
        f"{source.path} cannot be unpacked: {error}.",
        f"By its name it is compressed with {source.packed}; it is not, or not whole.",
        "Fetch it again, or name it as what it is.",
    )


def _lines(stream: IO[bytes], path: str) -> Iterator[tuple[str, bytes]]:
    """Each line that is not blank, with its place for messages."""
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        place = f"{path}, line {number}"
        if len(line) > LONGEST_LINE:
            raise UsageError(
                f"{place} has more than {LONGEST_LINE >> 20} MiB.",
                "A line of JSON has to be in memory whole.",
                "Divide its text into several lines, or name the file .txt if it is no JSON.",
            )
        if number == 1:
            line = line.removeprefix(MARK)
        if line.strip():
            yield place, line


def _encoded(text: str, place: str, errors: Errors) -> bytes:
    """A text out of JSON, Parquet or a data set in UTF-8, which NUL and half of a surrogate pair
    have no place in."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        if errors == "strict":
            half = f"{text[error.start]!a}, half of a surrogate pair"
            raise _odd(place, half, error.start) from None
        data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        if errors == "skip":
            data = text.encode("utf-8", "ignore")
    if b"\0" in data:
        if errors == "strict":
            raise _odd(place, "a NUL", text.index("\0"))
        data = data.replace(b"\0", "\ufffd".encode() if errors == "replace" else b"")
    return data


def _odd(place: str, what: str, where: int) -> UsageError:
    return UsageError(
        f"{place} holds {what}, as character {where} of its text.",
        "No text in UTF-8 has it.",
        "Mend that line, or write --errors replace (U+FFFD stands for it) or skip (it is dropped).",
    )


def _pieces(stream: IO[bytes], path: str, errors: Errors) -> Iterator[bytes]:
    """A text in pieces of at most a megabyte, cut at line ends, else between characters."""
    pending = b""
    at = 0
    lines = 0
    while True:
        data = pending + stream.read(SEGMENT - len(pending))
        ended = len(data) < SEGMENT
        cut = len(data) if ended else data.rfind(b"\n") + 1 or boundary(data)
        piece = data[:cut]
        pending = data[cut:]
        text = _checked(piece, path, errors, at, lines)
        yield text.removeprefix(MARK) if at == 0 else text
        if ended:
            return
        at += len(piece)
        lines += piece.count(b"\n")


def _checked(piece: bytes, path: str, errors: Errors, at: int, lines: int) -> bytes:
    """A piece that is UTF-8."""
    try:
        piece.decode()
        if b"\0" not in piece:
            return piece
    except UnicodeDecodeError:
        pass
    fault = first_fault(piece)
    assert fault is not None
    if errors == "strict" or (fault.spoils_all and at == 0):
        fault = replace(fault, offset=fault.offset + at, line=fault.line + lines)
        refused = fault.refusal(path, Path(path))
        if fault.spoils_all:
            raise refused
        raise UsageError(
            refused.what,
            refused.why,
            "Write --errors replace (U+FFFD stands for such bytes) or skip (they are dropped). Or "
            f"mend the file. {refused.write}",
        )
    if errors == "replace":
        return piece.decode("utf-8", "replace").replace("\0", "\ufffd").encode()
    return piece.decode("utf-8", "ignore").replace("\0", "").encode()


def boundary(data: bytes) -> int:
    """The last place in UTF-8 at which no character is divided; all of it where there is none."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if back >= length else len(data) - back
    return len(data)


def _as_one(pieces: Iterable[bytes]) -> Iterator[Segment]:
    held: bytes | None = None
    first = True
    for piece in pieces:
        if held is not None:
            yield Segment(held, first, False)
            first = False
        held = piece
    yield Segment(held or b"", first, True)


def _divided(pieces: Iterable[bytes], separator: bytes) -> Iterator[Segment]:
    first = True
    pending = b""
    for piece in pieces:
        *whole, pending = (pending + piece).split(separator)
        for part in whole:
            yield Segment(part, first, True)
            first = True
        if len(pending) > SEGMENT:
            cut = boundary(pending[: SEGMENT - len(separator)])
            yield Segment(pending[:cut], first, False)
            first = False
            pending = pending[cut:]
    if pending or not first:
        yield Segment(pending, first, True)


def _sliced(text: bytes) -> Iterator[Segment]:
    """A document that is in memory."""
    first = True
    while len(text) > SEGMENT:
        head = text[:SEGMENT]
        cut = head.rfind(b"\n") + 1 or boundary(head)
        yield Segment(text[:cut], first, False)
        text = text[cut:]
        first = False
    yield Segment(text, first, True)
