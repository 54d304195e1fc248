"""The point that a sweep's `--pick` chooses, as the flags of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halting.errors import UsageError
from training.console.amounts import counted
from training.console.command_text import command_text
from training.recipes.load import load_recipe
from training.tuning.measured import doubt, measured, pick
from training.tuning.space import label, without_overridden, words_of
from training.tuning.sweep import Sweep


@dataclass(frozen=True)
class Chosen:
    """A point of a sweep.

    Args:
        words: the flags of all of the sweep's trials, and those of the point.
        says: which it is, and what was measured there.
    """

    words: tuple[str, ...]
    says: str


def chosen(folder: Path, what: str, recipe: str, own: Sequence[str] = ()) -> Chosen:
    """The point that is meant.

    Args:
        folder: of the sweep.
        what: as `measured.pick` takes it.
        recipe: what is to be trained, which has to be what was swept.
        own: flags that a person gives beside; they take the place of the sweep's.

    Raises:
        UsageError: for a folder without a sweep, another recipe, and a pick that fits no point.
    """
    sweep = Sweep(folder)
    about = sweep.settings()
    if load_recipe(recipe).recipe != load_recipe(about.recipe).recipe:
        raise UsageError(
            f"--from-tune {folder} swept {about.recipe}; here {recipe} is trained.",
            "What is best for one task says nothing of another.",
            f"Write {command_text('ponder', 'train', about.recipe, '--from-tune', folder)}, or "
            f"sweep {recipe}.",
        )
    settings = measured(sweep)
    found = pick(settings, what)
    words = without_overridden((*about.fixed, *words_of(found.point)), own)
    quality = f"{found.mean(found.quality):.4g} {found.quality.replace('_', ' ')}"
    collapsed = f", of which {found.collapsed} collapsed" if found.collapsed else ""
    says = (
        f"{what} of {folder}: {label(found.point)}, measured {quality} at "
        f"{found.mean('mean_steps'):.2f} steps over {counted(len(found.rows), 'seed')}{collapsed}"
    )
    if what == "knee" and (note := doubt(settings)) is not None:
        says += f"\nnote: {note}"
    return Chosen(words, says)
