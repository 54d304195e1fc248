"""Files of a run that somebody made who means ill."""

import io
import json
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
from benchmarks.trouble.run_commands import COMMANDS, NEWEST, WEIGHTS


class _Runs:
    """What a pickle does when it is read."""

    def __reduce__(self):
        return (open, (MARKER, "w"))


def stranger(kind: str, number: int, source: random.Random, material: Material) -> Case:
    """A file that somebody made."""
    says, change, asked = source.choice(_ATTACKS)
    return Case(
        kind,
        number,
        f"{asked}: {says}",
        COMMANDS[asked],
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
    path = run / source.choice(WEIGHTS)
    path.write_bytes(pickle.dumps(_Runs()))


def _pickle_for_state(run: Path, source: random.Random) -> None:
    files = sorted(
        path for path in (run / NEWEST).iterdir() if path.is_file() and path.suffix != ".json"
    )
    source.choice(files).write_bytes(pickle.dumps(_Runs()))


def _torch_state(run: Path, source: random.Random) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(_Runs()))
        file.writestr("archive/version", "3\n")
    files = sorted(
        path for path in (run / NEWEST).iterdir() if path.is_file() and path.suffix != ".json"
    )
    source.choice(files).write_bytes(buffer.getvalue())


def _tensor_header(run: Path, source: random.Random) -> None:
    path = run / source.choice(WEIGHTS)
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
    path = run / NEWEST / "manifest.json"
    values = json.loads(path.read_text())
    text = json.dumps(values)
    names = [each.name for each in (run / NEWEST).iterdir()]
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
