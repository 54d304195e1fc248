"""Files of a run that are damaged, or made by somebody who means ill."""

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.material import Material
from benchmarks.trouble.pools import draw
from benchmarks.trouble.run_commands import COMMANDS, NEWEST, READS, WEIGHTS
from benchmarks.trouble.strangers_files import stranger

KIND = "run-file"
_REBUILT = (
    "metrics.jsonl",
    "log.txt",
    "summary.json",
    "events",
    "report.md",
    "ponder_map.json",
    "ponder_map.html",
    "ponder_map.png",
    "growth",
    "shape.json",
)
"""What may be damaged although it is read: told line by line, or made again."""

_GONE = ("missing", "a folder", "a link to itself", "a link to nothing", "a device", "a pipe")
"""After these, no file is there."""


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    if number % 4 == 3:
        return stranger(KIND, number, source, material)
    files = sorted(
        str(path.relative_to(material.run)) for path in material.run.rglob("*") if path.is_file()
    )
    important = [
        name
        for name in files
        if name.startswith(("config", "final", NEWEST, "ponder_map.npz", "metrics"))
    ]
    name = source.choice(important if source.random() < 0.7 else files)
    how = source.choice(list(_DAMAGES))
    asked = source.choice(list(READS))
    reads = any(name.startswith(each) for each in READS[asked])
    rule = None if reads else "unread"
    gone = how in _GONE
    if reads and (name.startswith(_REBUILT) or (gone and name == "ponder_map.npz")):
        rule = "rebuilt"
    elif reads and gone and name == WEIGHTS[0]:
        rule = "newest"
    elif how == "blanks at the end" and name.endswith((".json", ".jsonl")):
        rule = "whitespace"
    elif asked == "resume" and name.startswith(NEWEST):
        rule = "older"
    must_say = "update-0000|passed over|damaged|whole" if rule == "older" else None
    return Case(
        KIND,
        number,
        f"{asked}: {name}: {how}",
        COMMANDS[asked],
        rule,
        must_say=must_say,
        prepare=partial(_prepare, material=material, name=name, how=how, seed=number),
        check=partial(
            _nothing_lost, names=tuple(each for each in files if each != name), material=material
        ),
        limit=90.0,
    )


def _prepare(place: Path, material: Material, name: str, how: str, seed: int) -> None:
    material.copy(place)
    _DAMAGES[how](place / "runs" / "base" / name, random.Random(seed))


def _nothing_lost(
    place: Path, ended: Ended, names: tuple[str, ...], material: Material
) -> str | None:
    """A command that only looks, or is refused, leaves all other files as they were."""
    checkpoints = place / "runs" / "base" / "checkpoints"
    if ended.code == 0 and any(
        path.name > "update-000020" for path in checkpoints.glob("update-*")
    ):
        return None  # it went on, and keeps the last two
    for name in names:
        if name.startswith(("checkpoints/", "final/", "config.json")):
            file = place / "runs" / "base" / name
            if not file.exists():
                return f"loss: {name} is gone"
            if ended.code != 0 and file.read_bytes() != (material.run / name).read_bytes():
                return f"loss: {name} has changed"
    return None


def _cut(path: Path, source: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: source.randrange(max(1, len(content)))])


def _bit(path: Path, source: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    path.write_bytes(bytes(content) or b"\x00")


def _bit_at_the_end(path: Path, source: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[-1 - source.randrange(min(len(content), 64))] ^= 1 << source.randrange(8)
    path.write_bytes(bytes(content) or b"\x00")


def _zeros(path: Path, source: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = source.randrange(max(1, len(content)))
    content[start : start + 512] = b"\x00" * len(content[start : start + 512])
    path.write_bytes(bytes(content))


def _folder(path: Path, source: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path, source: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _dangling(path: Path, source: random.Random) -> None:
    path.unlink()
    path.symlink_to("/nonexistent/file")


def _endless(path: Path, source: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero" if source.random() < 0.3 else "/dev/null")


def _pipe(path: Path, source: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _empty(path: Path, source: random.Random) -> None:
    path.write_bytes(b"")


def _random_bytes(path: Path, source: random.Random) -> None:
    path.write_bytes(source.randbytes(1000))


def _missing(path: Path, source: random.Random) -> None:
    path.unlink()


def _bytes_more(path: Path, source: random.Random) -> None:
    path.write_bytes(path.read_bytes() + source.randbytes(100))


def _blanks_more(path: Path, source: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b"\n \n")


def _nested(path: Path, source: random.Random) -> None:
    path.write_bytes(b"[" * 200_000)


def _of_another(path: Path, source: random.Random) -> None:
    others = sorted(each for each in path.parent.iterdir() if each.is_file() and each != path)
    path.write_bytes(source.choice(others).read_bytes() if others else b"x")


_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _cut,
    "empty": _empty,
    "a bit flipped": _bit,
    "a bit flipped near its end": _bit_at_the_end,
    "a hole of zeros": _zeros,
    "random bytes": _random_bytes,
    "missing": _missing,
    "a folder": _folder,
    "a link to itself": _loop,
    "a link to nothing": _dangling,
    "a device": _endless,
    "a pipe": _pipe,
    "another file's content": _of_another,
    "bytes at the end": _bytes_more,
    "blanks at the end": _blanks_more,
    "deep nesting": _nested,
}
