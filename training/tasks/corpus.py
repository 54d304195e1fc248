"""A corpus: the bytes of a text file, of the texts of a folder, or of Python's standard library,
split for training."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from training.console.amounts import counted, in_bytes
from training.console.text_fault import MARK, Fault, first_fault
from training.tasks.data_identity import DataIdentity, FileDigest
from training.tasks.left_out import LeftOut, few
from training.tasks.task import SPLITS

Errors = Literal["strict", "replace", "skip"]
_CUTS = (90, 95)  # per cent, where training and validation end
_NOT_LIBRARY = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}
_REPLACED = "\ufffd"


@dataclass(frozen=True)
class Corpus:
    """What was read.

    Args:
        splits: the bytes of each.
        identity: of the files.
        says: how much was read.
        warnings: what was left out or replaced, a line each.
    """

    splits: dict[str, NDArray[np.uint8]]
    identity: DataIdentity
    says: str
    warnings: tuple[str, ...]


def read_corpus(
    text: str | None, least: int, errors: Errors = "strict", full_digest: bool = False
) -> Corpus:
    """Reads a corpus.

    Whole files go to a split by a hash of their path below the folder, 90 % to training and 5 %
    each to validation and test, so that a file keeps its split when others are added. With too few
    files for that, the bytes of all of them, end to end, are cut in these shares instead.

    Args:
        text: a file, or a folder, of which all texts below are read but those that are hidden or
            in linked folders; None: the standard library's own source, without its tests and what
            is installed besides.
        least: bytes that each split needs.
        errors: what becomes of bytes that are not UTF-8, and of NULs: "strict" refuses a file that
            has some, and leaves it out of a folder; "replace" writes U+FFFD for them; "skip" drops
            them. A file that is no text at all (compressed, binary, UTF-16) is never read.
        full_digest: whether large files are digested whole.

    Raises:
        UsageError: for a path that does not exist or cannot be read, holds no text, or too little
            of it.
    """
    reader = _Reader(errors, full_digest)
    if text is None:
        path = Path(sysconfig.get_path("stdlib"))
        asked = "The standard library's own source (no --data.text)"
        reader.read_library(path)
    else:
        path = _find(text)
        asked = f"--data.text {text or repr(text)}"
        if path is None:
            raise UsageError(
                f"{asked} cannot be found.",
                f"A path that begins with no slash is looked for in {Path.cwd()}.",
                "Write the path of a text file, or of a folder that holds some.",
            )
        if path.is_dir():
            reader.read_folder(path)
        else:
            reader.read_file(path)
    texts = reader.texts
    if not texts:
        left_out = "".join(f" {line[0].upper()}{line[1:]}" for line in reader.warnings())
        raise UsageError(
            f"{asked} holds no text.",
            "Only plain files count, and of a folder those that are not hidden and hold "
            f"UTF-8.{left_out}",
            "Write --data.text with a text file, or a folder that holds some.",
        )
    splits = _split_files(texts)
    if min(map(len, splits)) < least:
        splits = _split_bytes(b"".join(texts.values()))
    if min(map(len, splits)) < least:
        raise UsageError(
            f"{asked} holds {sum(map(len, splits))} bytes of text.",
            f"The smallest split gets 5 % of them, and needs {least} bytes for one example.",
            f"Write --data.text with at least {20 * least} bytes, or a smaller --data.length.",
        )
    return Corpus(
        {
            name: np.frombuffer(data, dtype=np.uint8)
            for name, data in zip(SPLITS, splits, strict=True)
        },
        DataIdentity(os.path.abspath(path), reader.digests),
        reader.says(),
        reader.warnings(),
    )


def _find(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        path.stat()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # not there, no such user's home, a name that no file can have
        return None
    return path if text else None


class _Reader:
    """Collects texts, their digests, and what is to be said of them.

    Args:
        errors, full_digest: as `read_corpus` takes them.
    """

    def __init__(self, errors: Errors, full_digest: bool):
        self.errors = errors
        self.full_digest = full_digest
        self.texts: dict[str, bytes] = {}
        self.digests: dict[str, FileDigest] = {}
        self.left_out = LeftOut(Path())
        self.hidden: list[str] = []
        self.with_crlf: list[str] = []
        self.repaired: list[str] = []
        self.num_replaced = 0

    def read_library(self, folder: Path) -> None:
        """The Python files below a folder."""
        for path in _sorted(_files(folder, _NOT_LIBRARY), folder):
            if path.name.endswith(".py") and (data := _read(path)) and first_fault(data) is None:
                self._take(path.relative_to(folder).as_posix(), data, data)

    def read_folder(self, folder: Path) -> None:
        """The texts below a folder by their path from there, in the order of these paths."""
        self.left_out = LeftOut(folder)
        for path in _sorted(_files(folder, frozenset(), self), folder):
            name = path.relative_to(folder).as_posix()
            if not path.is_file():
                broken = path.is_symlink() and not path.exists()
                self.left_out.add("broken" if broken else "special", name)
            elif data := _read(path):
                fault = first_fault(data)
                text = self._text(name, data, fault)
                if text is None:
                    assert fault is not None
                    self.left_out.add(fault.kind, name, fault)
                else:
                    self._take(name, data, text)

    def read_file(self, path: Path) -> None:
        """One text.

        Raises:
            UsageError: where it is none.
        """
        data = _read(path)
        fault = first_fault(data)
        text = self._text(path.name, data, fault)
        if text is None:
            assert fault is not None
            refused = fault.refusal(f"--data.text {path}", path)
            if fault.spoils_all:
                raise refused
            raise UsageError(
                refused.what,
                refused.why,
                "Write --data.errors replace (U+FFFD stands for such bytes) or skip (they are "
                f"dropped). Or mend the file. {refused.write}",
            )
        if text:
            self._take(path.name, data, text)

    def says(self) -> str:
        """How much was read."""
        size = in_bytes(sum(map(len, self.texts.values())))
        says = f"read {counted(len(self.texts), 'text')}, {size}"
        if self.with_crlf:
            says += f"; CRLF line ends are kept, in {few(self.with_crlf)}"
        if self.hidden:
            says += f"; hidden, and not read: {few(sorted(self.hidden))}"
        return says

    def warnings(self) -> tuple[str, ...]:
        """What was left out or changed."""
        if not self.repaired:
            return self.left_out.lines()
        places = counted(self.num_replaced, "place")
        what = "replaced by U+FFFD" if self.errors == "replace" else "dropped"
        line = f"{places} without valid UTF-8 {what}, in {few(self.repaired)}"
        return (line, *self.left_out.lines())

    def _text(self, name: str, data: bytes, fault: Fault | None) -> bytes | None:
        """The text in UTF-8 without a byte order mark; None for what is not to be read."""
        if fault is not None and (self.errors == "strict" or fault.spoils_all):
            return None
        data = data.removeprefix(MARK)
        if fault is None:
            return data
        replaced = data.decode("utf-8", "replace").replace("\0", _REPLACED)
        self.repaired.append(name)
        self.num_replaced += replaced.count(_REPLACED) - data.count(_REPLACED.encode())
        if self.errors == "replace":
            return replaced.encode()
        return data.decode("utf-8", "ignore").replace("\0", "").encode()

    def _take(self, name: str, data: bytes, text: bytes) -> None:
        self.texts[name] = text
        self.digests[name] = FileDigest.of(data, self.full_digest)
        if b"\r\n" in text:
            self.with_crlf.append(name)


def _files(folder: Path, skipped: Set[str], reader: _Reader | None = None) -> Iterator[Path]:
    """All files below a folder that are not hidden; what is passed over is told to the reader."""

    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error)

    for where, folders, files in os.walk(folder, onerror=refuse):
        if reader is not None:
            below = Path(where).relative_to(folder)
            for name in sorted(folders):
                if not name.startswith(".") and Path(where, name).is_symlink():
                    reader.left_out.add("linked", (below / name).as_posix())
            hidden = [name for name in (*folders, *files) if name.startswith(".")]
            reader.hidden += [(below / name).as_posix() for name in hidden]
        folders[:] = [name for name in folders if name not in skipped and not name.startswith(".")]
        yield from (Path(where, name) for name in files if not name.startswith("."))


def _sorted(paths: Iterator[Path], folder: Path) -> list[Path]:
    return sorted(paths, key=lambda path: path.relative_to(folder).parts)


def _read(path: Path) -> bytes:
    """What a file holds; nothing for a device, a pipe and a broken link."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path | str, error: OSError) -> UsageError:
    return UsageError(
        f"--data.text: {path} cannot be read.",
        f"The system says: {error.strerror}.",
        "Mend its permissions, or write another path.",
    )


def _split_files(texts: dict[str, bytes]) -> list[bytes]:
    parts: list[list[bytes]] = [[] for _ in SPLITS]
    for name, data in texts.items():
        # os.fsencode, because a file name may hold bytes that are no UTF-8.
        where = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest(), "big") % 100
        parts[sum(where >= cut for cut in _CUTS)].append(data)
    return [b"".join(part) for part in parts]


def _split_bytes(data: bytes) -> list[bytes]:
    first, second = (len(data) * cut // 100 for cut in _CUTS)
    return [data[:first], data[first:second], data[second:]]
