"""The files that a corpus is made of: what was named, what lies in named folders, what patterns
match."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halting.errors import UsageError
from training.console.extras import check_extra
from training.console.printable import check_visible

DATASETS = "datasets:"
"""What comes before the name of a data set of the hub."""
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_LINES = (".jsonl", ".ndjson")
_EXAMPLE = "Write text files, folders, patterns such as 'texts/*.jsonl.gz', or datasets:NAME."


@dataclass(frozen=True)
class Source:
    """One file, or one data set of the hub.

    Args:
        path: as it is read from here; "datasets:NAME" of a data set.
        kind: a text; JSON, a document a line; Parquet, a document a row; a data set.
        packed: how it is compressed.
        found: it was not named itself, but lies in a folder or matches a pattern.
    """

    path: str
    kind: Literal["text", "lines", "parquet", "dataset"]
    packed: Literal["gzip", "zstd"] | None = None
    found: bool = False

    @property
    def size(self) -> int:
        """Bytes of the file; 0 where they are not known."""
        return 0 if self.kind == "dataset" else os.stat(self.path).st_size

    @property
    def stamp(self) -> list[int]:
        """What changes when the file does."""
        if self.kind == "dataset":
            return []
        about = os.stat(self.path)
        return [about.st_size, about.st_mtime_ns]


def find_sources(corpora: Sequence[str]) -> list[Source]:
    """The files that are meant, in the order of what was named; of folders and patterns in the
    order of their paths, each file once. Hidden files and linked folders count only when named.

    Args:
        corpora: files, folders, patterns with *, ? and [, names such as
            "datasets:roneneldan/TinyStories" or
            "datasets:Salesforce/wikitext@wikitext-2-raw-v1:train".

    Raises:
        UsageError: for what is not there, and packages that are missing.
    """
    sources: dict[str, Source] = {}
    for name in corpora:
        for source in _named(name):
            sources.setdefault(
                source.path if source.kind == "dataset" else os.path.realpath(source.path), source
            )
    for source in sources.values():
        if source.packed == "zstd":
            check_extra("zstd", source.path)
        if source.kind == "parquet":
            check_extra("parquet", source.path)
        if source.kind == "dataset":
            check_extra("datasets", source.path)
    return list(sources.values())


def _named(name: str) -> Iterator[Source]:
    if name.startswith(DATASETS):
        yield Source(name, "dataset")
        return
    check_visible("The corpus", name)
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(_files(path), key=lambda each: each.relative_to(path).parts)
        if not found:
            raise UsageError(
                f"{name} holds no file.", "Hidden ones and linked folders do not count.", _EXAMPLE
            )
        yield from (_source(each, True) for each in found)
    elif path.is_file():
        yield _source(path, False)
    elif path.exists():
        raise UsageError(
            f"{name} is no file and no folder.",
            "A corpus is read twice, which a device or a pipe does not allow.",
            _EXAMPLE,
        )
    else:
        matching = sorted(Path(each) for each in glob.glob(str(path), recursive=True))
        files = [each for each in matching if each.is_file()]
        if not files:
            what = "matches no file" if glob.has_magic(name) else "cannot be found"
            raise UsageError(
                f"{name} {what}.",
                f"A path that begins with no slash is looked for in {Path.cwd()}.",
                _EXAMPLE,
            )
        yield from (_source(each, True) for each in files)


def _source(path: Path, found: bool) -> Source:
    packed = _PACKED.get(path.suffix.lower())
    inner = Path(path.stem) if packed else path
    suffix = inner.suffix.lower()
    kind = "lines" if suffix in _LINES else "parquet" if suffix == ".parquet" else "text"
    if kind == "parquet":
        packed = None
    return Source(str(path), kind, packed, found)  # pyright: ignore[reportArgumentType]


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden."""

    def refuse(error: OSError) -> None:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}.",
            "Everything in a folder that is named belongs to the corpus.",
            "Mend its permissions, or name what can be read.",
        )

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(where, name) for name in files if not name.startswith("."))
        yield from (path for path in paths if path.is_file())
