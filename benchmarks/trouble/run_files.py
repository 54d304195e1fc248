"""Files of a run that are damaged, or made by somebody who means ill."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.trouble.case import Case, Ended
from benchmarks.trouble.forked import MARKER
from benchmarks.trouble.material import Material, with_canary
from benchmarks.trouble.pools import draw

KIND = "run-file"
_NEWEST = "checkpoints/update-000020"
_WEIGHTS = ("final/model.safetensors", f"{_NEWEST}/model.safetensors")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "show": ("show", "runs/base", "--width", "80"),
    "show a page": ("show", "runs/base", "--html", "page.html"),
    "show fresh": ("show", "runs/base", "--split", "test"),
    "eval": ("eval", "runs/base"),
    "eval a checkpoint": ("eval", "runs/base@20"),
    "compare": ("compare", "runs/base", "runs/base@10", "--num", "4"),
    "export": ("export", "runs/base", "--output", "out"),
    "resume": ("train", "--resume", "runs/base", "--updates", "22"),
    "start from": ("train", "parity", "--start-from", "runs/base", "--dry-run"),
    "show again": ("show", "--split", "test"),
    "report": (
        "report",
        "runs/base",
        "--examples",
        "8",
        "--points",
        "2",
        "--repeats",
        "1",
        "--exit",
        "fixed",
    ),
    "tune": ("tune", "--out", "runs/base"),
    "pareto": (
        "show",
        "runs/base",
        "--pareto",
        "runs/base/points.json",
        "--png",
        "x.png",
        "--no-measure",
    ),
}
"""What is asked of the run."""
_READS: dict[str, tuple[str, ...]] = {
    "show": ("ponder_map",),
    "show a page": ("ponder_map", "growth"),
    "show fresh": ("config.json", "final"),
    "eval": ("config.json", "final"),
    "eval a checkpoint": ("config.json", _NEWEST),
    "compare": ("config.json", "final", "checkpoints/update-000010"),
    "export": ("config.json", "final"),
    "resume": ("config.json", _NEWEST),
    "start from": ("config.json", "final"),
    "show again": ("config.json", "final"),
    "report": ("config.json", "final", "metrics.jsonl"),
    "pareto": ("ponder_map", "points.json"),
}
"""What these need of a run: the beginnings of paths. What they don't may be damaged."""
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


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    if number % 4 == 3:
        return _malicious(number, source, material)
    files = sorted(
        str(path.relative_to(material.run)) for path in material.run.rglob("*") if path.is_file()
    )
    important = [
        name
        for name in files
        if name.startswith(("config", "final", _NEWEST, "ponder_map.npz", "metrics"))
    ]
    name = source.choice(important if source.random() < 0.7 else files)
    how = source.choice(list(_DAMAGES))
    asked = source.choice([each for each in _READS if each != "pareto"])
    reads = any(name.startswith(each) for each in _READS[asked])
    rule = "unread" if not reads else None
    if reads and name.startswith(_REBUILT):
        rule = "rebuilt"
    if how == "blanks at the end" and name.endswith((".json", ".jsonl")):
        rule = "whitespace"
    if asked == "resume" and name.startswith(_NEWEST):
        rule = "older"
    if asked == "resume" and name.startswith(_NEWEST):
        must_say = "update-0000|passed over|damaged|whole"
    else:
        must_say = None
    return Case(
        KIND,
        number,
        f"{asked}: {name}: {how}",
        _COMMANDS[asked],
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
    if ended.code == 0 and "update 22" in ended.said:
        return None  # it went on
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


def _of_another(path: Path, source: random.Random) -> None:
    others = sorted(each for each in path.parent.iterdir() if each.is_file() and each != path)
    path.write_bytes(source.choice(others).read_bytes() if others else b"x")


_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _cut,
    "empty": lambda path, source: path.write_bytes(b"") and None,
    "a bit flipped": _bit,
    "a bit flipped near its end": _bit_at_the_end,
    "a hole of zeros": _zeros,
    "random bytes": lambda path, source: path.write_bytes(source.randbytes(1000)) and None,
    "missing": lambda path, source: path.unlink(),
    "a folder": _folder,
    "a link to itself": _loop,
    "a link to nothing": _dangling,
    "a device": _endless,
    "a pipe": _pipe,
    "another file's content": _of_another,
    "bytes at the end": lambda path, source: (
        path.write_bytes(path.read_bytes() + source.randbytes(100)) and None
    ),
    "blanks at the end": lambda path, source: (
        path.write_bytes(path.read_bytes() + b"\n \n") and None
    ),
    "deep nesting": lambda path, source: path.write_bytes(b"[" * 200_000) and None,
}


class _Runs:
    """What a pickle does when it is read."""

    def __reduce__(self):
        return (open, (MARKER, "w"))


def _malicious(number: int, source: random.Random, material: Material) -> Case:
    """A file that somebody made."""
    says, change, asked = source.choice(_ATTACKS)
    return Case(
        KIND,
        number,
        f"{asked}: {says}",
        _COMMANDS[asked],
        "unread" if says in _HARMLESS else None,
        prepare=partial(_attack, material=material, change=change, seed=number),
        check=_not_huge,
        limit=60.0,
    )


def _attack(
    place: Path, material: Material, change: Callable[[Path, random.Random], None], seed: int
) -> None:
    material.copy(place)
    with_canary(place)
    with_canary(place / "runs" / "base")
    change(place / "runs" / "base", random.Random(seed))


def _not_huge(place: Path, ended: Ended) -> str | None:
    if ended.seconds > 30:
        return f"{ended.seconds} s for a small file"
    return None


def _npz(run: Path, names: dict[str, bytes]) -> None:
    with zipfile.ZipFile(run / "ponder_map.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in names.items():
            file.writestr(name, content)


def _npy(shape: str, kind: str = "<f4", content: bytes = b"") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


def _members(run: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(run / "ponder_map.npz") as file:
        return {name: file.read(name) for name in file.namelist()}


def _with_member(run: Path, content: Callable[[str], bytes], source: random.Random) -> None:
    members = _members(run)
    name = source.choice(sorted(members))
    members[name] = content(name)
    _npz(run, members)


def _pickled(run: Path, source: random.Random) -> None:
    _with_member(run, lambda name: _npy("(1,)", "|O", pickle.dumps([_Runs()])), source)


def _huge_header(run: Path, source: random.Random) -> None:
    shape = source.choice(
        (
            "(1000000000000000,)",
            "(2147483647, 2147483647)",
            "(-1,)",
            "(4, 4000000000)",
            "(99999999999999999999999,)",
        )
    )
    _with_member(run, lambda name: _npy(shape), source)


def _bomb(run: Path, source: random.Random) -> None:
    _with_member(run, lambda name: _npy("(500000000,)", "<f4", b"\x00" * 400_000_000), source)


def _evil_name(run: Path, source: random.Random) -> None:
    members = _members(run)
    members[
        source.choice(("../../../outside.txt.npy", "/tmp/x.npy", "a\x00b.npy", "canary.py"))
    ] = _npy("(1,)", "<f4", b"\x00" * 4)
    _npz(run, members)


def _metadata(key: str) -> Callable[[Path, random.Random], None]:
    def change(run: Path, source: random.Random) -> None:
        path = run / "ponder_map.json"
        values = json.loads(path.read_text())
        holder = values.get("metadata", values)
        holder[key] = source.choice(
            (
                "../../outside",
                "../../../outside.txt",
                "/etc/x",
                "a\x1b[31m",
                "<script>alert(1)</script>",
                "x" * 10_000,
                None,
                7,
                [],
                {},
                "$(touch EXECUTED)",
            )
        )
        path.write_text(json.dumps(values))

    return change


def _named_code(group: str, kind: str) -> Callable[[Path, random.Random], None]:
    def change(run: Path, source: random.Random) -> None:
        path = run / "config.json"
        values = json.loads(path.read_text())
        here = kind.replace("HERE", str(run.absolute()))
        if group == "block":
            values["model"]["block"] = here
        else:
            values[group] = {**(values[group] or {"options": {}}), "kind": here}
        path.write_text(json.dumps(values))

    return change


def _pickle_for_weights(run: Path, source: random.Random) -> None:
    path = run / source.choice(_WEIGHTS)
    path.write_bytes(pickle.dumps(_Runs()))


def _pickle_for_state(run: Path, source: random.Random) -> None:
    files = sorted(
        path for path in (run / _NEWEST).iterdir() if path.is_file() and path.suffix != ".json"
    )
    source.choice(files).write_bytes(pickle.dumps(_Runs()))


def _torch_state(run: Path, source: random.Random) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(_Runs()))
        file.writestr("archive/version", "3\n")
    files = sorted(
        path for path in (run / _NEWEST).iterdir() if path.is_file() and path.suffix != ".json"
    )
    source.choice(files).write_bytes(buffer.getvalue())


def _tensor_header(run: Path, source: random.Random) -> None:
    path = run / source.choice(_WEIGHTS)
    header = source.choice(
        (
            struct.pack("<Q", 2**63 - 1) + b"{}",
            struct.pack("<Q", 10**9) + b"{" * 100,
            struct.pack("<Q", 60)
            + b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4]}}'[:60],
            b"",
            struct.pack("<Q", 2) + b"{}",
        )
    )
    path.write_bytes(header)


def _manifest(run: Path, source: random.Random) -> None:
    path = run / _NEWEST / "manifest.json"
    values = json.loads(path.read_text())
    text = json.dumps(values)
    names = [each.name for each in (run / _NEWEST).iterdir()]
    path.write_text(
        text.replace(
            source.choice(names),
            source.choice(
                ("../../../../../../etc/passwd", "/etc/passwd", "../../config.json", "\x00", "")
            ),
        )
    )


def _links_out(run: Path, source: random.Random) -> None:
    outside = run.parent.parent.parent / "outside.txt"
    path = run / source.choice(
        ("metrics.jsonl", "log.txt", "config.json", "summary.json", "checkpoints/update-000030")
    )
    if path.exists():
        path.unlink()
    path.symlink_to(outside)


def _points(run: Path, source: random.Random) -> None:
    (run / "points.json").write_text(
        source.choice(
            (
                "[]",
                "{}",
                "null",
                "[1]",
                '[{"label": 1}]',
                '[{"label": "a", "accuracy": NaN, "compute": 1}]',
                '[{"label": "a", "accuracy": 1e308, "compute": -1e308}]',
                "[" * 100_000,
                '[{"label": "' + "x" * 10_000 + '", "accuracy": 1, "compute": 1}]',
                '[{"label": "a", "accuracy": "b", "compute": []}]',
            )
        )
    )


_ATTACKS: tuple[tuple[str, Callable[[Path, random.Random], None], str], ...] = (
    ("a map that is a pickle", _pickled, "show"),
    ("a map whose header says 10^15 entries", _huge_header, "show"),
    ("a map whose header says 10^15 entries", _huge_header, "show a page"),
    ("a map that unpacks to 400 MB", _bomb, "show"),
    ("a map with a path for a name", _evil_name, "show"),
    *(
        (f"a map's {key} is a path", _metadata(key), asked)
        for key in ("run", "task", "rule", "recipe")
        for asked in ("show", "show a page")
    ),
    *(
        (f"its {group} is code beside it ({kind})", _named_code(group, kind), asked)
        for group, kind in (
            ("halting", "canary.py:Canary"),
            ("halting", "HERE/canary.py:Canary"),
            ("data", "HERE/canary.py:Task"),
            ("block", "HERE/canary.py:Canary"),
            ("cost", "canary:Canary"),
            ("data", "os:system"),
        )
        for asked in ("show fresh", "eval", "export", "resume", "compare")
    ),
    ("weights that are a pickle", _pickle_for_weights, "eval"),
    ("weights that are a pickle", _pickle_for_weights, "eval a checkpoint"),
    ("state that is a pickle", _pickle_for_state, "resume"),
    ("state that is a pickle of torch's", _torch_state, "resume"),
    ("a header of weights that lies", _tensor_header, "eval"),
    ("a header of weights that lies", _tensor_header, "export"),
    ("a manifest that names files elsewhere", _manifest, "resume"),
    ("a file that is a link to elsewhere", _links_out, "resume"),
    ("a file that is a link to elsewhere", _links_out, "eval"),
    ("points that are none", _points, "pareto"),
    ("a folder that is no sweep", lambda run, source: None, "tune"),
)
_HARMLESS = frozenset(
    {f"a map's {key} is a path" for key in ("run", "task", "rule", "recipe")}
    | {
        "a map with a path for a name",
        "a file that is a link to elsewhere",
        "points that are none",
        "weights that are a pickle",
        "a header of weights that lies",
        "a manifest that names files elsewhere",
        "state that is a pickle",
        "state that is a pickle of torch's",
    }
)
"""What may be taken, where it does no harm: it may be passed over for what is whole."""
