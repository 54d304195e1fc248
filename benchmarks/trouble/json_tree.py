"""Values in a tree of JSON, by paths such as "halting.options.epsilon"."""

import json
from typing import Any


def encoded(values: Any) -> bytes:
    """As a file holds them; lone surrogates too."""
    return json.dumps(values, indent=2).encode("utf-8", "surrogatepass")


def leaves(values: dict[str, Any], before: str = "") -> list[str]:
    """The paths of all that is no object, or an empty one."""
    found = []
    for name, value in values.items():
        path = f"{before}{name}"
        found += leaves(value, f"{path}.") if isinstance(value, dict) and value else [path]
    return found


def at(values: Any, path: str) -> Any:
    """The value at a path; None where there is none. "" is the whole."""
    for name in path.split(".") if path else ():
        if not isinstance(values, dict) or name not in values:
            return None
        values = values[name]
    return values


def put(values: Any, path: str, value: Any) -> None:
    """Puts a value there, and objects on the way where there are none."""
    group, _, name = path.rpartition(".")
    for each in group.split(".") if group else ():
        if not isinstance(values.get(each), dict):
            values[each] = {}
        values = values[each]
    values[name] = value


def drop(values: Any, path: str) -> Any:
    """Takes a value away, and gives it."""
    group, _, name = path.rpartition(".")
    return at(values, group).pop(name)
