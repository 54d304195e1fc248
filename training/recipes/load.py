"""Recipes by name."""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halting.errors import UsageError
from training.config.code_trust import reading
from training.config.config_file import read_config_file
from training.config.importing import absolute, load
from training.config.spelling import did_you_mean

if TYPE_CHECKING:
    from training.config.run_config import RunConfig


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    package = importlib.import_module("training.recipes")
    return sorted(
        module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "load"
    )


def load_recipe(name: str) -> "RunConfig":
    """The config that a recipe returns. Its `recipe` field finds it again.

    Args:
        name: a recipe of the package (dashes equal underscores), "path/to/file.py:function" or
            "module:function".

    Raises:
        UsageError: for an unknown recipe, and one that returns something else than a RunConfig.
    """
    # Here: a config imports torch, and naming the recipes needs none.
    from training.config.run_config import RunConfig

    if name.endswith(".py"):
        name += ":recipe"
    module = name.replace("-", "_")
    if ":" not in name and module not in recipe_names():
        raise UsageError(
            f"There is no recipe {name}.",
            f"Those that exist are {', '.join(recipe_names()) or 'none'}.",
            f"{did_you_mean(module, recipe_names())}Write one of them, or your own as "
            "path/to/file.py:function.",
        )
    found = absolute(name) if ":" in name else name
    recipe = load(found if ":" in name else f"training.recipes.{module}:recipe", f"Recipe {name}")
    config = recipe() if callable(recipe) else recipe
    if not isinstance(config, RunConfig):
        raise UsageError(
            f"Recipe {name} gives {config!r}.",
            "A recipe is a function without arguments that returns a RunConfig.",
            "Write `def recipe() -> RunConfig: return RunConfig(...)`.",
        )
    if ":" not in name and config.recipe.replace("-", "_") == module:
        return config
    return config.model_copy(update={"recipe": found})


def load_config(path: Path) -> "RunConfig":
    """The config in a file: a run's config.json, or YAML.

    A file that names its task (`data` with a `kind`) is a whole config, whose missing keys have
    their defaults. Another one gives changes to its `recipe`: a record is changed key by key, and a
    part that names its `kind` is a new one.

    Raises:
        UsageError: for a file that cannot be read, an unknown key or recipe, and a value that
            cannot be.
    """
    from training.config.run_config import RunConfig

    values = read_config_file(path)
    data = values.get("data")
    with reading(path):
        if "recipe" in values and not (isinstance(data, dict) and "kind" in data):
            values = _changed(json.loads(load_recipe(str(values["recipe"])).to_json()), values)
        # Through JSON, so that strictness is JSON's; what JSON has no word for is no value of a
        # config.
        return RunConfig.from_json(json.dumps(values, default=str))


def _changed(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    changed = dict(before)
    for key, value in changes.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "kind" not in value:
            value = _changed(old, value)
        changed[key] = value
    return changed
