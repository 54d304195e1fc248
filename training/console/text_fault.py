"""Where bytes stop being text in UTF-8, and what they look like there."""

import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halting.errors import UsageError

MARK = b"\xef\xbb\xbf"
"""The byte order mark that editors put before UTF-8; readers read over it."""
_LOOKED_AT = 1 << 16  # bytes that tell binary data, and UTF-16 without a mark, from text
_PACKED = {
    b"\x1f\x8b": ("gzip", "gzip -dc {file} > {new}"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc {file} > {new}"),
    b"PK\x03\x04": ("zip (so are docx, xlsx and epub)", "unzip {file}"),
    b"\xfd7zXZ\0": ("xz", "xz -dc {file} > {new}"),
    b"BZh": ("bzip2", "bzip2 -dc {file} > {new}"),
}
_MARKS = {  # UTF-32 before UTF-16, whose mark begins alike
    b"\xff\xfe\0\0": "UTF-32LE",
    b"\0\0\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
_CONTROLS = bytes(sorted({*range(1, 0x20), 0x7F} - {*b"\t\n\r\f\b\x1b"}))


@dataclass(frozen=True)
class Fault:
    """The first place at which bytes are no text.

    Args:
        kind: what it looks like: a compressed file, UTF-16 or UTF-32 (wide), binary data, an
            encoding of one byte a character, a NUL, a character that is cut off at the end, or
            stray bytes in what is text elsewhere.
        looks_like: the same as a sentence.
        remedy: a sentence with a command for it; `{file}` and `{new}` stand for paths.
        offset: of its first byte, counted from 0.
        line: from 1.
        byte: what stands there.
    """

    kind: Literal["compressed", "wide", "binary", "one-byte", "nul", "cut", "stray"]
    looks_like: str
    remedy: str
    offset: int
    line: int
    byte: int

    @property
    def spoils_all(self) -> bool:
        """Whether none of it can be read as text, so that nothing is gained by replacing bytes."""
        return self.kind in ("compressed", "wide", "binary")

    @property
    def place(self) -> str:
        """For messages."""
        return f"line {self.line}, byte {self.offset} (0x{self.byte:02x})"

    def remedy_for(self, path: Path) -> str:
        """The remedy, its command ready to paste."""
        new = path.with_name(f"{path.stem}.utf-8{path.suffix}")
        return self.remedy.format(file=shlex.quote(str(path)), new=shlex.quote(str(new)))

    def refusal(self, asked: str, path: Path) -> UsageError:
        """The error of a reader.

        Args:
            asked: what a person named, such as "--config FILE".
            path: the file.
        """
        what = f"{asked} is not text in UTF-8 from {self.place} on."
        return UsageError(what, self.looks_like, self.remedy_for(path))


def first_fault(data: bytes) -> Fault | None:
    """The first place at which bytes are not UTF-8, or hold a NUL; None for text."""
    stop = data.find(b"\0")
    error = None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as found:
        error = found
        stop = found.start if stop < 0 else min(stop, found.start)
    if stop < 0:
        return None
    if (whole := _no_text(data)) is not None:
        return _at(0, data, *whole)
    if error is None or stop < error.start:
        return _at(stop, data, *_nul(data))
    if error.reason == "unexpected end of data" and not _reads_on(data, stop):
        return _at(stop, data, *_cut(data, stop))
    return _at(stop, data, *_stray(data, stop, error.end))


def _at(offset: int, data: bytes, kind: str, looks_like: str, remedy: str) -> Fault:
    line = data.count(b"\n", 0, offset) + 1
    return Fault(kind, looks_like, remedy, offset, line, data[offset])  # pyright: ignore[reportArgumentType]


def _no_text(data: bytes) -> tuple[str, str, str] | None:
    """What is no UTF-8 as a whole."""
    for magic, (name, command) in _PACKED.items():
        if data.startswith(magic):
            return "compressed", f"It is compressed with {name}.", f"Unpack it: {command}"
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            return _encoded(name, "as its byte order mark says")
    head = data[:_LOOKED_AT]
    first = head[::2].count(0) / max(1, len(head[::2]))
    second = head[1::2].count(0) / max(1, len(head[1::2]))
    if max(first, second) > 0.4 and min(first, second) < 0.1:
        name = "UTF-16BE" if first > second else "UTF-16LE"
        return _encoded(name, "without a byte order mark: every other byte is 0")
    if len(head) - len(head.translate(None, _CONTROLS)) > len(head) // 20:
        return (
            "binary",
            "It looks like binary data: many of its bytes are no characters in any encoding.",
            "Leave {file} out, or write what is text in it to another file.",
        )
    return None


def _encoded(name: str, why: str) -> tuple[str, str, str]:
    return (
        "wide",
        f"It looks like {name}, {why}.",
        f"Convert it: iconv -f {name.removesuffix('LE').removesuffix('BE')}"
        f"{'' if 'mark says' in why else name[-2:]} -t UTF-8 {{file}} > {{new}}",
    )


def _nul(data: bytes) -> tuple[str, str, str]:
    number = data.count(0)
    return (
        "nul",
        f"It holds {f'{number} NUL bytes' if number > 1 else 'one NUL byte'}, which no text has: "
        "part of the file may never have been written.",
        r"Bring it whole again, or drop them: tr -d '\000' < {file} > {new}",
    )


def _reads_on(data: bytes, start: int) -> bool:
    """Whether the last byte alone, in Windows-1252, is a small letter that ends a word, as in what
    was written in that encoding: café. The capital letters and signs that it gives else are first
    bytes of cut characters."""
    last = data[start - 1 :].decode("cp1252", "replace")
    return len(data) - start == 1 and len(last) == 2 and last.isalpha() and last[1].islower()


def _cut(data: bytes, start: int) -> tuple[str, str, str]:
    lead = data[start]
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    there = len(data) - start
    looks_like = f"It ends within a character: {there} of its {length} bytes {_is(there)} there"
    if there == 1 and (as_windows := _in_windows_1252(lead)) is not None:
        looks_like += f" (in Windows-1252 it would be {as_windows})"
    remedy = f"Bring it whole again, or cut the rest off: head -c {start} {{file}} > {{new}}"
    return "cut", f"{looks_like}.", remedy


def _stray(data: bytes, start: int, stop: int) -> tuple[str, str, str]:
    number = data.decode("utf-8", "replace").count("\ufffd") - data.count(b"\xef\xbf\xbd")
    as_windows = _in_windows_1252(data[start])
    would_be = f", where it is {as_windows}" if as_windows is not None else ""
    if number > 1 and data.decode("utf-8", "ignore").isascii():
        name = "WINDOWS-1252" if as_windows is not None else "LATIN1"
        return (
            "one-byte",
            f"It looks like {'Windows-1252 or Latin-1' if as_windows else 'Latin-1'}{would_be}, or "
            f"another encoding of one byte a character: {number} places are not UTF-8, and no "
            "character beyond ASCII is.",
            f"Convert it: iconv -f {name} -t UTF-8 {{file}} > {{new}}",
        )
    remedy = "Write the character that belongs there"
    if data[start] == 0xED and 0xA0 <= data[start + 1] < 0xC0:
        looks_like = "half of a surrogate pair, which UTF-8 cannot write"
    elif stop - start > 1 or as_windows is None:
        looks_like = "a character of which bytes are missing"
    else:
        looks_like = f"a stray byte of Windows-1252{would_be}"
        remedy = f"Write {as_windows.partition(' ')[0]} there in UTF-8"
    more = f" The first of {number} such places in what is UTF-8 elsewhere." if number > 1 else ""
    return "stray", f"It looks like {looks_like}.{more}", f"{remedy}, in {{file}}."


def _in_windows_1252(byte: int) -> str | None:
    """’ (right single quotation mark); None for a byte that it has no character for."""
    try:
        character = bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return None
    return f"{character} ({unicodedata.name(character, 'no name').lower()})"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
