"""A config that a person keeps in a file: a run's config.json, or YAML."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode

from halting.errors import UsageError


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
    try:
        text = path.read_text(encoding="utf-8")
        found = (
            json.loads(text, object_pairs_hook=_once)
            if path.suffix == ".json"
            else yaml.load(text, _Loader)
        )
    except OSError as error:
        raise UsageError(
            f"--config {path} cannot be read: {error.strerror}.",
            "The whole run is described there.",
            "Write the path of a file that is there, such as runs/NAME/config.json.",
        ) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(
            f"--config {path}: {' '.join(str(error).split())}.",
            "It cannot be read at all.",
            "Fix that place.",
        ) from error
    if not isinstance(found, dict):
        raise UsageError(
            f"--config {path} holds {type(found).__name__}, not keys and values.",
            "Each key is a field of a RunConfig.",
            "Write lines such as `recipe: pointer_chase`.",
        )
    return found


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are those of version 1.2, where 3e-3 is a number (in 1.1 it is a text),
    and which takes no key twice."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConstructorError(None, None, f"the key {twice} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key} is there twice")
        found[key] = value
    return found
