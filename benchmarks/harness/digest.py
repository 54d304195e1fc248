"""A fingerprint of the code that a row of results depends on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from halting.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("act", "halting", "training")
"""All of the product: what a whole training depends on."""
_LENGTH = 12
_NO_CODE = {".md", ".pyc"}


def code_digest(*names: str, root: Path = ROOT) -> str:
    """Twelve hexadecimal digits of SHA-256 over paths and bytes.

    A row that was measured by this code has them; one whose code has changed since, by a single
    byte or by a file that moved, has others.

    Args:
        names: files and folders, as paths below the root. A folder stands for all that lies in and
            below it, recipes and web pages too, without Markdown and compiled Python.
        root: the repository.

    Raises:
        UsageError: where nothing is named, or a name is of no file and of no folder with files.
    """
    if not names:
        raise UsageError(
            "A digest of no code was asked for.",
            "It would be the same whatever a row was measured by.",
            'Name files and folders, such as code_digest("act", "halting").',
        )
    digest = hashlib.sha256()
    for path in sorted({path for name in names for path in _files(root, name)}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:_LENGTH]


def _files(root: Path, name: str) -> Iterator[Path]:
    place = root / name
    found = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    kept = [path for path in found if path.suffix not in _NO_CODE]
    if not kept:
        raise UsageError(
            f"The digest of {name} was asked for.",
            f"There is no such code below {root}: rows would be kept although it changes.",
            "Name what is there; a file that moved is named by its new path.",
        )
    yield from kept
