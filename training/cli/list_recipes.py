"""`ponder recipes`: what can be trained."""

import importlib
from collections.abc import Sequence

from halting.errors import UsageError
from training.recipes.load import load_recipe, recipe_names


def main(argv: Sequence[str]) -> int:
    """Lists the recipes; gives the exit code."""
    if list(argv) in (["-h"], ["--help"]):
        print(
            "usage: ponder recipes\n\nWhat can be trained: one line each, from the recipe's own "
            "first lines."
        )
        return 0
    if argv:
        raise UsageError(
            f"ponder recipes {argv[0]}.",
            "It takes no arguments.",
            f"Write ponder train {argv[0]} --help.",
        )
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        config = load_recipe(name)
        says, _, more = (
            importlib.import_module(f"training.recipes.{name}").__doc__ or ""
        ).partition("\n\n")
        print(f"{name.ljust(width)}  {says.strip()}")
        penalty = "of the cost" if config.penalty.value is None else f"{config.penalty.value:g}"
        rule = f"{config.halting.kind}, at most {config.loop.max_steps} steps, penalty {penalty}"
        print(f"{' ' * width}  {more.strip() + ' ' if more.strip() else ''}({rule})")
    print("\ntrain one: ponder train NAME     your own: ponder train path/to/file.py:function")
    return 0
