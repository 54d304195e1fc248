"""What a task reads, told apart from anything else that stands at the same place: the same on every
machine that has a copy."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

_WHOLE = 1 << 26  # bytes up to which a file is digested whole, 64 MiB
_BLOCKS = 256
_BLOCK = 1 << 14
_DIGITS = 16  # hexadecimal, of SHA-256
_NAMED = 256  # files that ranks compare one by one; of more, their sum


@dataclass(frozen=True)
class FileDigest:
    """The content of a file.

    Args:
        size: bytes.
        sampled: SHA-256 of the content, its first 16 digits; of more than 64 MiB that of 256 blocks
            of 16 KiB spread evenly, the first and the last bytes among them.
        full: of all of it, where that was asked for.
    """

    size: int
    sampled: str
    full: str | None = None

    @classmethod
    def of(cls, data: bytes, full: bool = False) -> "FileDigest":
        """The digest of a file's content."""
        if len(data) <= _WHOLE:
            whole = hashlib.sha256(data).hexdigest()[:_DIGITS]
            return cls(len(data), whole, whole if full else None)
        sampled = hashlib.sha256()
        view = memoryview(data)
        for number in range(_BLOCKS):
            start = (len(data) - _BLOCK) * number // (_BLOCKS - 1)
            sampled.update(view[start : start + _BLOCK])
        whole = hashlib.sha256(data).hexdigest()[:_DIGITS] if full else None
        return cls(len(data), sampled.hexdigest()[:_DIGITS], whole)

    def is_that_of(self, other: "FileDigest") -> bool:
        """Whether both are of the same content, as far as both know it."""
        if self.full is not None and other.full is not None:
            return (self.size, self.full) == (other.size, other.full)
        return (self.size, self.sampled) == (other.size, other.sampled)

    def __str__(self) -> str:
        return f"{self.full or self.sampled} ({self.size:,} bytes)"


@dataclass(frozen=True)
class DataIdentity:
    """The files that a task reads.

    Args:
        place: where they lie: a folder, or the one file.
        files: the digest of each, by its path below the folder with slashes.
    """

    place: str
    files: Mapping[str, FileDigest]

    @cached_property
    def digest(self) -> str:
        """Of all of it: names, sizes and samples."""
        return self._sum(lambda each: each.sampled)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(each.size for each in self.files.values())

    def changes(self, before: "DataIdentity") -> dict[str, tuple[FileDigest | None, ...]]:
        """The files that differ, with what they were and what they are; None where one is not
        there. The name of an only file does not count."""
        if len(self.files) == len(before.files) == 1:
            [(name, now)] = self.files.items()
            [then] = before.files.values()
            return {} if now.is_that_of(then) else {name: (then, now)}
        found = {}
        for name in sorted({*self.files, *before.files}):
            then, now = before.files.get(name), self.files.get(name)
            if then is None or now is None or not now.is_that_of(then):
                found[name] = (then, now)
        return found

    def facts(self) -> str:
        """As JSON, for ranks to compare: file by file, or their sum where they are many."""
        if len(self.files) <= _NAMED:
            return json.dumps({name: str(each) for name, each in self.files.items()})
        whole = self._sum(lambda each: each.full or each.sampled)
        return json.dumps({"files": len(self.files), "bytes": self.size, "digest": whole})

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "place": self.place,
            "digest": self.digest,
            "files": {
                name: {key: value for key, value in asdict(each).items() if value is not None}
                for name, each in self.files.items()
            },
        }

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> "DataIdentity":
        """What `values` gave."""
        files = {name: FileDigest(**each) for name, each in values["files"].items()}
        return cls(values["place"], files)

    def path_of(self, name: str) -> str:
        """Where a file lies, for messages."""
        place = Path(self.place)
        return str(place if place.name == name and len(self.files) == 1 else place / name)

    def _sum(self, digest_of: Any) -> str:
        whole = hashlib.sha256()
        for name, each in sorted(self.files.items()):
            called = name if len(self.files) > 1 else ""
            whole.update(repr((called, each.size, digest_of(each))).encode())
        return whole.hexdigest()[:_DIGITS]
