"""manifest.json: what is in a folder of tokens."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halting.errors import UsageError
from training.console.text_file import read_json

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1
DTYPES = {"uint8": 1, "uint16": 2, "uint32": 4}
_ABOUT = "It says what the token files beside it are, and training reads them by it."
_PREPARE = "ponder data prepare CORPUS --out {folder}"


@dataclass(frozen=True)
class SplitCounts:
    """One split.

    Args:
        documents: how many.
        tokens: with one mark a document.
        bytes: of text.
    """

    documents: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A folder's content.

    Args:
        values: all of manifest.json.
    """

    values: Mapping[str, Any]

    @property
    def dtype(self) -> str:
        """Of a token: "uint8", "uint16" or "uint32", little-endian."""
        return self.values["dtype"]

    @property
    def digest(self) -> str:
        """SHA-256 of all files, of the tokenizer and of what the tokens mean."""
        return self.values["digest"]

    @property
    def has_exact_bytes(self) -> bool:
        """Whether the bytes of each document are those of its tokens, added up."""
        return self.values["tokenizer"]["exact_bytes"]

    def split(self, name: str) -> SplitCounts:
        """The counts of "train", "validation" or "test"."""
        found = self.values["splits"][name]
        return SplitCounts(found["documents"], found["tokens"], found["bytes"])

    @property
    def size(self) -> int:
        """Bytes of all files of tokens."""
        splits = self.values["splits"].values()
        return sum(file["bytes"] for split in splits for file in split["files"].values())


def digest_of(values: Mapping[str, Any]) -> str:
    """What `Manifest.digest` is, of the other values: where a corpus lay doesn't count."""
    told = {name: values[name] for name in ("format", "dtype", "vocabulary", "mark", "splits")} | {
        "tokenizer": values["tokenizer"].get("sha256", values["tokenizer"]["kind"])
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path, asked: str) -> Manifest:
    """The manifest of a folder, and whether its files are there in their sizes.

    Args:
        folder: that `ponder data prepare` wrote.
        asked: what a person named, for messages.

    Raises:
        UsageError: where there is none, for one that is damaged, and for files that are missing or
            of another size.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = folder.with_name(f"{folder.name}.unfinished").is_dir()
        raise UsageError(
            f"{asked} {'is not finished' if unfinished else 'holds no tokens'}.",
            f"There is no {path}, which ponder data prepare writes when all is there.",
            ("Write the same command again, and it goes on: " if unfinished else "Make it: ")
            + _PREPARE.format(folder=folder),
        )
    values = read_json(path, str(path), _ABOUT, f"{folder}/{MANIFEST}")
    try:
        if values["format"] != FORMAT:
            raise UsageError(
                f"{path} is of format {values['format']}.",
                f"This version reads format {FORMAT}.",
                f"Prepare it again: {_PREPARE.format(folder=folder)}",
            )
        fits = values["digest"] == digest_of(values) and values["dtype"] in DTYPES
        files = {
            file["name"]: file["bytes"]
            for split in values["splits"].values()
            for file in split["files"].values()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}", folder) from None
    if not fits:
        raise _damaged(path, "its values are not those of its digest", folder)
    for name, size in files.items():
        there = (folder / name).stat().st_size if (folder / name).is_file() else None
        if there != size:
            says = "is not there" if there is None else f"has {there:,} bytes"
            raise UsageError(
                f"{folder / name} {says}; it should have {size:,} bytes.",
                "The manifest beside it says so; the copy may have been cut off.",
                f"Copy the folder again, or make it: {_PREPARE.format(folder=folder)}",
            )
    return Manifest(values)


def _damaged(path: Path, how: str, folder: Path) -> UsageError:
    return UsageError(
        f"{path} is damaged: {how}.",
        _ABOUT,
        f"Copy the folder again, or make it: {_PREPARE.format(folder=folder)} --overwrite",
    )
