"""Config files with a slip in them, given with --config or lying in a run's folder."""

import copy
import json
import random
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.trouble.case import Case
from benchmarks.trouble.json_tree import at, drop, encoded, leaves, put
from benchmarks.trouble.material import Material, with_canary
from benchmarks.trouble.pools import JSON, draw, misspelt
from benchmarks.trouble.rules import DOMAINS, FLAT

KIND = "config"
_GIVEN = ("train", "--config", "given.json", "--dry-run")
_USES = (
    ("show", "runs/base", "--split", "test"),
    ("eval", "runs/base"),
    ("export", "runs/base", "--output", "out"),
    ("train", "--resume", "runs/base", "--dry-run"),
    ("compare", "runs/base", "runs/base@10", "--examples", "4"),
)
"""Commands that read the config of a run's folder."""
_NOT_EXPORTED = ("data.options.", "launch.deepspeed_config ")
"""Keys whose meaning an export has no use for."""
_MAY_LACK = {
    "recipe": None,
    "data": None,
    "halting.kind": None,
    "data.kind": None,
    "objective.kind": None,
    "schedule.kind": None,
}
_EMPTY = {
    **{name: ({},) for name in FLAT},
    "loop": ({},),
    "penalty": ({},),
    "model": ({}, {"options": {}}),
    "optimizer": ({}, {"options": {}}),
    "data": ({"kind": "Parity"}, {}),  # without a kind, a file changes its recipe
}
"""What may stand for a whole section: its defaults."""
_LARGEST = 10**7
"""What a run's own folder is looked at with; larger numbers rightly take long."""


@dataclass(frozen=True)
class Slip:
    """A config with a slip in it.

    Args:
        content: of the file.
        says: what was done.
        rule, must_say, must_work, config: as in `Case`.
    """

    content: bytes
    says: str
    rule: str | None = None
    must_say: str | None = None
    must_work: bool = False
    config: tuple[tuple[str, Any], ...] = ()


def make(number: int, material: Material) -> Case:
    """The case of this number."""
    source = draw(number, KIND)
    how = source.choice(
        (
            _value,
            _value,
            _value,
            _value,
            _swapped,
            _lacking,
            _misspelt,
            _added,
            _section,
            _text,
            _text,
            _deep,
        )
    )
    slip = how({**copy.deepcopy(material.config), "name": "another"}, source)
    words = _GIVEN
    if number % 3 == 2 and not _is_large(slip.content):
        words = source.choice(_USES)
    takes = words == _GIVEN
    if words[0] == "export" and slip.rule is None and slip.says.startswith(_NOT_EXPORTED):
        slip = replace(slip, rule="unread")
    return Case(
        KIND,
        number,
        f"{words[0]}: {slip.says}",
        words,
        slip.rule,
        must_work=slip.must_work,
        must_say=slip.must_say if takes else None,
        config=slip.config if takes else (),
        prepare=partial(_prepare, content=slip.content, material=material, given=takes),
    )


def _prepare(place: Path, content: bytes, material: Material, given: bool) -> None:
    with_canary(place)
    material.copy(place)
    path = place / "given.json" if given else place / "runs" / "base" / "config.json"
    path.write_bytes(content)


def _is_large(content: bytes) -> bool:
    try:
        numbers = _numbers(json.loads(content))
    except (ValueError, RecursionError):
        return False
    return any(abs(number) > _LARGEST for number in numbers)


def _numbers(values: Any) -> list[float]:
    if isinstance(values, dict):
        return [number for each in values.values() for number in _numbers(each)]
    if isinstance(values, list):
        return [number for each in values for number in _numbers(each)]
    return [values] if isinstance(values, int | float) else []


def _value(values: dict[str, Any], source: random.Random) -> Slip:
    """One key with another value."""
    path = source.choice(list(DOMAINS))
    value = source.choice(JSON)
    put(values, path, value)
    rule, must_say = judged(path, value)
    held = ((path, value),) if rule is not None and value is not None else ()
    return Slip(encoded(values), f"{path} {_short(value)}", rule, must_say, config=held)


def judged(path: str, value: Any) -> tuple[str | None, str | None]:
    """The rule that allows a value at a path of a config, and what has to be said."""
    domain = DOMAINS[path]
    if value is None:
        return ("value", None) if domain.nothing else (None, None)
    if (
        path == "penalty.target_steps"
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ):
        return ("value", None) if 1 <= value <= 4 else (None, None)
    kinds: dict[str, Any] = {"int": int, "float": int | float, "str": str, "bool": bool}
    if not isinstance(value, kinds[domain.kind]) or isinstance(value, bool) is not (
        domain.kind == "bool"
    ):
        return None, None
    try:
        if not domain.allows(value):
            return None, None
    except (OverflowError, UnicodeEncodeError):
        return None, None
    must_say = domain.must_say(value)
    return ("value" if must_say is None else "said"), must_say


def _swapped(values: dict[str, Any], source: random.Random) -> Slip:
    """The values of two keys, exchanged."""
    first, second = source.sample(sorted(leaves(values)), 2)
    one, other = at(values, first), at(values, second)
    put(values, first, other)
    put(values, second, one)
    found = [
        judged(path, value)[0] if path in DOMAINS else None
        for path, value in ((first, other), (second, one))
    ]
    same = one == other and type(one) is type(other)
    free = {"recipe"}  # a label, where the task is named
    ok = [
        rule is not None or (path in free and isinstance(value, str))
        for path, value, rule in zip((first, second), (other, one), found, strict=True)
    ]
    return Slip(
        encoded(values), f"{first} and {second} exchanged", "value" if same or all(ok) else None
    )


def _lacking(values: dict[str, Any], source: random.Random) -> Slip:
    """A key that is missing."""
    path = source.choice(sorted(leaves(values)) + sorted(values))
    drop(values, path)
    return Slip(encoded(values), f"{path} is missing", None if path in _MAY_LACK else "default")


def _misspelt(values: dict[str, Any], source: random.Random) -> Slip:
    """A key with a slip."""
    path = source.choice(sorted(leaves(values)) + sorted(values))
    group, _, name = path.rpartition(".")
    wrong = misspelt(name, source)
    holder = at(values, group) if group else values
    kept = holder.pop(name)
    known = wrong in holder or wrong == name or f"{group}.{wrong}" in DOMAINS
    holder[wrong] = kept
    return Slip(encoded(values), f"{group}.{wrong} for {name}", "default" if known else None)


def _added(values: dict[str, Any], source: random.Random) -> Slip:
    """A key that there is not."""
    group = source.choice(
        (
            "",
            *(name for name, value in values.items() if isinstance(value, dict)),
            "model.options",
            "data.options",
            "halting.options",
            "optimizer.options",
        )
    )
    name = source.choice(
        (
            "x",
            "",
            "lr",
            "learning-rate",
            "__class__",
            "__init__",
            "model_config",
            "self",
            "a.b",
            "$ref",
            "\n",
            "日本語",
            "cls",
            "dim",
            "params",
            "max_steps ",
            "seed ",
            "_comment",
            "//",
            "model_fields",
        )
    )
    holder = at(values, group) if group else values
    holder[name] = source.choice(JSON)
    return Slip(encoded(values), f"{group}.{name!r} {_short(holder[name])}")


def _section(values: dict[str, Any], source: random.Random) -> Slip:
    """Something else for a whole section, or for the file."""
    names = [name for name, value in values.items() if isinstance(value, dict)]
    name = source.choice((*names, *names, ""))
    value = source.choice(JSON)
    if name:
        values[name] = value
        allowed = value in _EMPTY.get(name, ()) and isinstance(value, dict)
        return Slip(encoded(values), f"{name} is {_short(value)}", "default" if allowed else None)
    return Slip(encoded(value), f"the whole file is {_short(value)}")


def _text(values: dict[str, Any], source: random.Random) -> Slip:
    """What is wrong with the file itself."""
    good = json.dumps(values, indent=2)
    place = source.randrange(1, len(good) - 1)
    shuffled = list(values.items())
    source.shuffle(shuffled)
    name = source.choice(sorted(values))
    line = f'"{name}": {json.dumps(values[name])}, '
    slips = (
        Slip(good[:place].encode(), f"cut after {place} bytes"),
        Slip(b"", "empty"),
        Slip(b" \n", "blank"),
        Slip(
            (good[:place] + source.choice("\x00\x01{}[],:\"\\'#/") + good[place:]).encode(),
            f"a sign more at {place}",
            "value",
        ),
        Slip(good.encode("utf-16"), "UTF-16"),
        Slip(good.encode("utf-32"), "UTF-32"),
        Slip(
            good.encode()[:place] + b"\xff\xfe" + good.encode()[place:], "bytes that are no UTF-8"
        ),
        Slip(good.replace("parity", "parit\xe9").encode("latin-1"), "Latin-1"),
        Slip(b"\xef\xbb\xbf" + good.encode(), "a byte order mark", "whitespace"),
        Slip(good.replace("\n", "\r\n").encode(), "CRLF", "whitespace", must_work=True),
        Slip(json.dumps(values).encode(), "one line", "whitespace", must_work=True),
        Slip(
            json.dumps(dict(shuffled), indent=1).encode(),
            "keys in another order",
            "whitespace",
            must_work=True,
        ),
        Slip(good.replace("{", "{" + line, 1).encode(), f"{name} twice"),
        Slip(
            good.replace(
                "0.003",
                source.choice(
                    ("NaN", "Infinity", "-Infinity", "1e999", "0x1", "3e", "..3", "003", "1" * 5000)
                ),
            ).encode(),
            "no number of JSON",
        ),
        Slip(("// a comment\n" + good).encode(), "a comment"),
        Slip(good.rstrip("}\n ").encode() + b",\n}\n", "a comma at the end"),
        Slip(good.replace('"', "'").encode(), "single quotes"),
        Slip((good + good).encode(), "twice the file"),
        Slip(("[" * 100_000).encode(), "100,000 open brackets"),
        Slip(('{"a":' * 100_000 + "1" + "}" * 100_000).encode(), "100,000 objects in each other"),
        Slip(b"\x1f\x8b\x08\x00" + bytes(source.randrange(256) for _ in range(200)), "gzip"),
        Slip(bytes(source.randrange(256) for _ in range(500)), "random bytes"),
        Slip(b"PK\x03\x04" + b"\x00" * 100, "a zip file"),
        Slip((good + " " * 5_000_000).encode(), "five megabytes of blanks", "whitespace"),
    )
    return source.choice(slips)


def _deep(values: dict[str, Any], source: random.Random) -> Slip:
    """Code of a stranger's, wherever a class is named."""
    kinds = ("data", "halting", "readout", "cost", "objective", "optimizer", "schedule", "model")
    name = source.choice(kinds)
    kind = source.choice(
        (
            "canary.py:Canary",
            "canary:Canary",
            "canary.py:Task",
            "./canary.py:Canary",
            "os:system",
            "subprocess:Popen",
            "builtins:eval",
            "canary.py",
            "canary.py:",
            ":Canary",
            "canary.py:Nothing",
            "../x.py:Y",
            "/dev/null:X",
            "http://x/y.py:Z",
            "pickle:loads",
        )
    )
    if name in ("readout", "cost") or source.random() < 0.3:
        values[name] = {"kind": kind, "options": {}}
    elif name == "model" and source.random() < 0.5:
        values[name]["block"] = kind
    else:
        values[name]["kind"] = kind
    good = kind.partition(":")[0].endswith("canary.py") or kind == "canary:Canary"
    fits = (kind.endswith(":Canary") and name == "halting") or (
        kind.endswith(":Task") and name == "data"
    )
    return Slip(encoded(values), f"{name} names {kind}", "asked" if good and fits else None)


def _short(value: Any) -> str:
    return (
        repr(value)[:60] if not isinstance(value, int) or abs(value) < 10**40 else "a huge number"
    )
