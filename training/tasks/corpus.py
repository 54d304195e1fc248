"""A corpus: the bytes of a text file, of the texts of a folder, or of Python's standard library,
split for training."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Set
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from training.tasks.task import SPLITS

_CUTS = (90, 95)  # per cent, where training and validation end
_NOT_LIBRARY = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}


def read_corpus(text: str | None, least: int) -> dict[str, NDArray[np.uint8]]:
    """The bytes of each split.

    Whole files go to a split by a hash of their path below the folder, 90 % to training and 5 %
    each to validation and test, so that a file keeps its split when others are added. With too few
    files for that, the bytes of all of them, end to end, are cut in these shares instead.

    Args:
        text: a file, or a folder, of which all texts below are read but those that are hidden;
            None: the standard library's own source, without its tests and what is installed
                besides.
        least: bytes that each split needs.

    Raises:
        UsageError: for a path that does not exist or cannot be read, holds no text, or too little
            of it.
    """
    if text is None:
        texts = _folder_texts(Path(sysconfig.get_path("stdlib")), _NOT_LIBRARY, ".py")
        asked = "The standard library's own source (no --data.text)"
    else:
        path = _find(text)
        asked = f"--data.text {text or repr(text)}"
        if path is None:
            raise UsageError(
                f"{asked} cannot be found.",
                f"A path that begins with no slash is looked for in {Path.cwd()}.",
                "Write the path of a text file, or of a folder that holds some.",
            )
        texts = _folder_texts(path) if path.is_dir() else _single_text(path)
    if not texts:
        raise UsageError(
            f"{asked} holds no text.",
            "Only plain files count, and of a folder those that are not hidden and hold UTF-8.",
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
    return {
        name: np.frombuffer(data, dtype=np.uint8) for name, data in zip(SPLITS, splits, strict=True)
    }


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


def _single_text(path: Path) -> dict[str, bytes]:
    data = _read(path)
    if data and not _is_text(data):
        raise UsageError(
            f"--data.text {path} is not text in UTF-8.",
            "It may be binary, or in another encoding.",
            "Convert it, as with iconv -f latin1 -t utf-8.",
        )
    return {path.name: data} if data else {}


def _folder_texts(
    folder: Path, skipped: Set[str] = frozenset(), suffix: str = ""
) -> dict[str, bytes]:
    """The texts below a folder by their path from there, in the order of these paths."""
    texts = {}
    for path in sorted(_files(folder, skipped), key=lambda path: path.relative_to(folder).parts):
        data = _read(path) if path.name.endswith(suffix) else b""
        if data and _is_text(data):
            texts[path.relative_to(folder).as_posix()] = data
    return texts


def _files(folder: Path, skipped: Set[str]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error)

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith(".")]
        yield from (Path(where, name) for name in files if not name.startswith("."))


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


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


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
