"""Recipes by name."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from halting.errors import UsageError
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
