"""The folder in which tokens are made, and its way to where it was asked for."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.data.manifest import MANIFEST, TOKENIZER
from training.data.splitting import SPLITS
from training.data.token_writer import FILES

LOCK = "lock"
_BELONG = {MANIFEST, TOKENIZER} | {
    form.format(split=split) for split in SPLITS for form in FILES.values()
}
"""The files of a folder of tokens."""


def check_output(out: Path, overwrite: bool) -> None:
    """Raises UsageError where something stands that is no folder of tokens to be replaced."""
    if not out.exists():
        return
    replaceable = out.is_dir() and {path.name for path in out.iterdir()} <= _BELONG
    if not (replaceable and overwrite):
        raise UsageError(
            f"{out} exists already.",
            "Only a folder of tokens that holds nothing else is replaced, by --overwrite.",
            f"Write another --out{', or --overwrite' if replaceable else ''}.",
        )


@contextlib.contextmanager
def locked(work: Path) -> Iterator[None]:
    """Nobody else works there at the same time."""
    with open(work / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{work} is being worked in.",
                "Two commands would write the same files.",
                "Wait until the other one has ended, or write another --out.",
            ) from None
        yield


def clear(work: Path) -> None:
    """Removes unfinished work."""
    for path in work.iterdir():
        if path.name != LOCK:
            path.unlink()


def appear(work: Path, out: Path) -> None:
    """Lets the folder stand where it was asked for, with nothing in it but what belongs there."""
    for path in work.iterdir():
        if path.name not in _BELONG:
            path.unlink()
    replaced = out.with_name(f".replaced-{os.getpid()}-{out.name}")
    if out.exists():
        out.rename(replaced)
    work.rename(out)
    shutil.rmtree(replaced, ignore_errors=True)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_values(path: Path) -> Any:
    """What was written there; None where nothing was."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_values(path: Path, values: Any) -> None:
    """Writes JSON, whole or not at all."""
    beside = path.with_name(f".{path.name}")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
