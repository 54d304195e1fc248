"""What a checkpoint, final weights or an export consist of: sizes and checksums, written last and
verified before use."""

import hashlib
import json
import os
import re
from pathlib import Path

from halting.errors import UsageError
from training.distributed import collectives

FILE = "manifest.json"
_VERSION = 1
_MOST_BYTES = 1 << 26  # of a manifest: half a million files
_DIGEST = re.compile("[0-9a-f]{64}")


def write(folder: Path) -> None:
    """Takes down every file of a folder; called by all ranks, each of which reads its share. The
    files are on the disk when this returns, not in its cache alone."""
    mine = {}
    failure = None
    try:
        mine = {name: [size, digest] for name, size, digest in map(_measured, *_share(folder))}
    except OSError as error:
        failure = error
    if any(collectives.all_gather_object(failure is not None)):
        raise failure or OSError("another rank could not read what was written")
    files = {
        name: about for each in collectives.all_gather_object(mine) for name, about in each.items()
    }
    if collectives.rank() == 0:
        text = json.dumps({"version": _VERSION, "files": dict(sorted(files.items()))}, indent=1)
        with (folder / FILE).open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)


def damage(folder: Path) -> list[str]:
    """What is wrong with a folder, in words, the same on all ranks: empty where every file is as it
    was written. Called by all ranks, each of which reads its share."""
    listed = collectives.broadcast_object(_listed(folder) if collectives.rank() == 0 else None)
    if isinstance(listed, str):
        return [listed]
    names = sorted(listed)[collectives.rank() :: collectives.world_size()]
    found = [says for name in names if (says := _wrong(folder / name, *listed[name])) is not None]
    return sorted(says for each in collectives.all_gather_object(found) for says in each)


def check_file(path: Path) -> None:
    """Checks one file against the manifest beside it; by this process alone.

    Raises:
        UsageError: for a file that is not what was written, and for one that no manifest names.
    """
    listed = _listed(path.parent)
    if isinstance(listed, str):
        says = f"{path.parent} cannot be trusted: {listed}"
    elif path.name not in listed:
        says = f"{path} cannot be trusted: the {FILE} beside it does not name it"
    elif (wrong := _wrong(path, *listed[path.name])) is not None:
        says = f"{path} is damaged: {wrong}"
    else:
        return
    raise UsageError(
        f"{says}.",
        "Weights with one wrong bit give other answers, and nothing would say so.",
        "Bring the folder back from a copy, or name a checkpoint that is whole: RUN@500. A run "
        "writes final/ anew when it goes on: ponder train --resume RUN",
    )


def sync_folder(folder: Path) -> None:
    """Has the names in a folder written to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _share(folder: Path) -> tuple[list[Path], list[Path]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    mine = files[collectives.rank() :: collectives.world_size()]
    return mine, [folder] * len(mine)


def _measured(path: Path, folder: Path) -> tuple[str, int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return path.relative_to(folder).as_posix(), path.stat().st_size, digest


def _listed(folder: Path) -> dict[str, list] | str:
    """The files that the manifest names; in words, why there are none."""
    try:
        with (folder / FILE).open("rb") as file:
            about = json.loads(file.read(_MOST_BYTES))
        files = about["files"]
        assert about["version"] == _VERSION and all(_is_entry(*each) for each in files.items())
        return files
    except FileNotFoundError:
        return f"it has no {FILE}: it was never finished"
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        RecursionError,
    ):
        return f"its {FILE} cannot be read"


def _is_entry(name: str, about: list) -> bool:
    """Whether it names a file within the folder, with a size and a checksum."""
    size, digest = about
    inside = Path(name).parts and not Path(name).is_absolute() and ".." not in Path(name).parts
    return bool(inside and type(size) is int and size >= 0 and _DIGEST.fullmatch(digest))


def _wrong(path: Path, size: int, digest: str) -> str | None:
    try:
        found = path.stat().st_size
        if not path.is_file():
            return f"{path.name} is no file"
        if found != size:
            return f"{path.name} has {found:,} bytes instead of {size:,}"
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == digest
        return None if same else f"{path.name} is not what was written (its checksum differs)"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"
