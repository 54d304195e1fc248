"""A config that a person keeps in a file: a run's config.json, or YAML."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode

from halting.errors import UsageError
from training.console.text_file import parse_json, read_text, twice

_MOST = 10_000  # values in a YAML file


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys and values of a file.

    Raises:
        UsageError: for a file that is not there, that is neither JSON nor YAML, that gives a key
            twice, or that holds something else than keys and values.
    """
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise UsageError(
            f"--config {path} is neither JSON nor YAML.",
            "The end of its name says how it is read.",
            "Write a file that ends in .json, .yaml or .yml, such as a run's config.json.",
        )
    asked = f"--config {path}"
    text = read_text(path, asked, "The whole run is described there.", "runs/NAME/config.json")
    found = parse_json(text, asked) if path.suffix == ".json" else _parse_yaml(text, asked)
    if not isinstance(found, dict):
        raise UsageError(
            f"--config {path} holds {type(found).__name__}, not keys and values.",
            "Each key is a field of a RunConfig.",
            "Write lines such as `recipe: pointer_chase`.",
        )
    return found


def _parse_yaml(text: str, asked: str) -> Any:
    try:
        found = yaml.load(text, _Loader)
    except _Twice as error:
        raise twice(asked, *error.args) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        says = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(
            f"{asked}: {' '.join(says.split())}.", "It cannot be read at all.", "Mend that place."
        ) from None
    if _is_large(found):
        raise UsageError(
            f"{asked} holds more than {_MOST:,} values.",
            "Aliases (*name) may repeat one another without end, and a run has a hundred values.",
            "Write the values out.",
        )
    return found


def _is_large(value: Any) -> bool:
    """Whether there are more values than a config can have, each counted where it is repeated."""
    waiting = [value]
    for _ in range(_MOST):
        if not waiting:
            return False
        last = waiting.pop()
        waiting += (
            last.values() if isinstance(last, dict) else last if isinstance(last, list) else ()
        )
    return bool(waiting)


class _Twice(Exception):
    """A key that is there twice, and its two values."""


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are those of version 1.2, where 3e-3 is a number (in 1.1 it is a text),
    and which takes no key twice."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict:
        seen: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # the constructor below says so
            value = self.construct_object(value_node, deep=True)
            if key in seen:
                raise _Twice(key, seen[key], value)
            seen[key] = value
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
