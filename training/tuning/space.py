"""What a sweep varies and what it keeps, read from the words of the command line; and the config of
each point."""

import typing
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import product
from typing import Any, Self

from halting.errors import UsageError
from training.config.flags import parse
from training.config.model_part import ModelPart
from training.config.parts import ROLES, Option, resolve, signature_fields
from training.config.record import Record
from training.config.run_config import RunConfig
from training.config.sections import Part
from training.config.warmups import shortened
from training.recipes.load import load_recipe
from training.tuning.axis import Axis

ALWAYS_SWEPT = "penalty.value"
_OURS = {
    "seed": "Each setting is trained under several seeds: write --seeds 3.",
    "name": "Trials have names of their own: drop it.",
    "output": "The sweep's folder holds its trials: write --out DIR.",
    "schedule": "The budget of a trial says what it goes by: write --trial-budget.",
    "time_limit": "The budget of a trial says how long it is: write --trial-budget 30s.",
    "flops_limit": "The budget of a trial says how long it is: write --trial-budget 1e12flops.",
    "deepspeed_config": "A trial trains in one process: drop it.",
}

Point = Mapping[str, str]
"""A setting: the word of each flag that is varied, by the flag's name without dashes."""


@dataclass(frozen=True)
class Space:
    """What is varied around a recipe.

    Args:
        recipe: its name, or file.py:function.
        fixed: flags that all trials share, as words.
        axes: what is varied.
    """

    recipe: str
    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]

    @classmethod
    def read(cls, recipe: str, words: Sequence[str], known: Sequence[str] = ()) -> Self:
        """From a command line: a flag with several values, or a range, is varied; so is the
        penalty, with one.

        Args:
            recipe: what is trained.
            words: the flags behind it.
            known: names that an earlier part of the sweep varied, to which one value is one more.

        Raises:
            UsageError: for flags that a sweep sets itself, values that the flag cannot take, and
                pairings that cannot work, in any of the grid's points.
        """
        fixed: list[str] = []
        axes: list[Axis] = []
        config = load_recipe(recipe)
        for name, values in _flags(words).items():
            if name in _OURS:
                raise UsageError(
                    f"--{_dashed(name)} stands in a sweep.",
                    "It is what the sweep sets.",
                    _OURS[name],
                )
            many = len(values) > 1 and not _holds_list(config, name)
            if (
                many
                or any(".." in value for value in values)
                or (values and name in (ALWAYS_SWEPT, *known))
            ):
                axes.append(Axis.read(_dashed(name), values))
            else:
                fixed += [f"--{_dashed(name)}", *values]
        found = cls(
            config.recipe, tuple(fixed), tuple(axes)
        )  # which finds it again from any folder
        found.base()
        for point in found.probes():
            found.config(point)
        return found

    def base(self) -> RunConfig:
        """The recipe with the flags that all share."""
        return _parsed(self.recipe, self.fixed)

    def grid(self) -> list[Point]:
        """All combinations of the values; none where something is drawn from a range."""
        if not self.axes or any(axis.is_range for axis in self.axes):
            return []
        names = [axis.name for axis in self.axes]
        return [
            dict(zip(names, words, strict=True))
            for words in product(*(axis.words for axis in self.axes))
        ]

    def probes(self) -> list[Point]:
        """The grid; or both ends of each range, with the first value of the others: what is looked
        at beforehand."""
        if not any(axis.is_range for axis in self.axes):
            return self.grid()
        ends = {axis.name: axis.words or (_end(axis.low), _end(axis.high)) for axis in self.axes}
        first = {name: words[0] for name, words in ends.items()}
        return [{**first, name: word} for name, words in ends.items() for word in words]

    def config(self, point: Point) -> RunConfig:
        """The config of a point.

        Raises:
            UsageError: for one that cannot be.
        """
        return _parsed(self.recipe, (*self.fixed, *words_of(point)))


def words_of(point: Point) -> list[str]:
    """The flags of a point, as one types them. Switches have no values: they are there, or with a
    no."""
    words: list[str] = []
    for name, word in point.items():
        if word in ("True", "False"):
            group, dot, last = name.rpartition(".")
            words.append(f"--{group}{dot}{'' if word == 'True' else 'no-'}{last}")
        else:
            words += [f"--{name}", word]
    return words


def without_overridden(words: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """The flags, with their values, that are not among a person's own, which override them."""
    overridden = {_name(word) for word in own if word.startswith("--")}
    kept: list[str] = []
    keeps = False
    for word in words:
        if word.startswith("--"):
            keeps = _name(word) not in overridden
        if keeps:
            kept.append(word)
    return tuple(kept)


def label(point: Point) -> str:
    """A setting in a few words: the value alone where only the penalty is varied."""
    if list(point) == [ALWAYS_SWEPT]:
        return point[ALWAYS_SWEPT]
    named = [
        ("penalty" if name == ALWAYS_SWEPT else name.rpartition(".")[2], word)
        for name, word in point.items()
    ]
    return " · ".join(f"{name} {word}" for name, word in named) or "the recipe"


def _parsed(recipe: str, words: Sequence[str]) -> RunConfig:
    said = StringIO()
    try:
        with redirect_stderr(said):
            before = load_recipe(recipe)
            return shortened(before, parse(before, words, f"ponder tune {recipe}"), words)
    except SystemExit:
        lines = [line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines()]
        raise UsageError(
            f"{' '.join(words)}: {' '.join(line for line in lines if line)[:300]}.",
            "Each value of a sweep is a value of the flag before it.",
            f"Ask ponder train {recipe} --help what the flag takes.",
        ) from None


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    """The values behind each flag, by its name with underscores."""
    found: dict[str, list[str]] = {}
    name = None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in found:
                raise UsageError(
                    f"--{_dashed(name)} is given twice.",
                    "One of them would be passed over.",
                    "Write all values behind one.",
                )
            found[name] = [value] if equals else []
        elif name is None:
            raise UsageError(
                f"{word} stands before any flag.",
                "It is no recipe's place.",
                "Write ponder tune RECIPE --flag …",
            )
        else:
            found[name].append(word)
    return found


def _holds_list(config: RunConfig, name: str) -> bool:
    """Whether a flag takes several values at once, so that several are no grid."""
    group, _, last = name.rpartition(".")
    annotation: Any = None
    if group in ROLES:
        known = _options_of(getattr(config, group), group)
        annotation = next((option.annotation for option in known if option.name == last), None)
    else:
        holder: Any = getattr(config, group, None) if group else config
        field = type(holder).model_fields.get(last) if isinstance(holder, Record) else None
        annotation = field.annotation if field else None
    kinds = (annotation, *typing.get_args(annotation))
    return any((typing.get_origin(kind) or kind) in (list, tuple) for kind in kinds)


def _options_of(part: Part | None, group: str) -> tuple[Option, ...]:
    if isinstance(part, ModelPart):
        return part.known_options()
    return signature_fields(resolve(part.kind, ROLES[group].base)) if part is not None else ()


def _end(value: float | None) -> str:
    assert value is not None
    return str(int(value)) if value == int(value) else repr(value)


def _name(word: str) -> str:
    return word.partition("=")[0].replace("_", "-")


def _dashed(name: str) -> str:
    return name.replace("_", "-")
