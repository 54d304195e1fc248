"""Command-line flags: every field of a RunConfig, and every option of the parts that are chosen, is
one."""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, make_dataclass
from itertools import zip_longest
from typing import Annotated, Any, Self

import tyro

from halting.errors import UsageError
from training.config.flat_sections import FLAT_SECTIONS, SECTION_OF
from training.config.model_part import ModelPart
from training.config.parts import (
    BLOCK,
    ROLES,
    Option,
    Role,
    check_options,
    exported_name,
    resolve,
    signature_fields,
)
from training.config.record import Record
from training.config.run_config import RunConfig
from training.config.sections import Part

_NO_FLAGS = ("recipe", "deepspeed")


def parse(recipe: RunConfig, argv: Sequence[str], prog: str = "ponder train") -> RunConfig:
    """The recipe's config, changed by flags.

    The options that exist are those of the classes chosen: on the command line, else by the recipe,
    else by the rule, which brings its own readout and cost. Choosing another class drops the
    recipe's options for the old one; choosing another rule drops the recipe's readout and cost too,
    and another cost its penalty, for steps and nats don't weigh alike. `recipe` itself is no flag:
    it comes before them; nor is `deepspeed`, which the file that deepspeed_config names says.

    Args:
        recipe: what to start from.
        argv: the flags, dashes or underscores.
        prog: the command that they follow, for `--help`.

    Raises:
        UsageError: for values that cannot work.
        SystemExit: with code 2 for an unknown flag (the message names the one that was meant) or a
            value that its type cannot take; with code 0 for `--help`.
    """
    _check_values(argv)
    given = given_flags(argv)
    choices = _choices(recipe, given)
    model = _ModelChoice.of(recipe.model, given)
    recipe = _with_penalty_of(recipe, choices["cost"].cls)
    members: list[_Member] = []
    for name, info in RunConfig.model_fields.items():
        value = getattr(recipe, name)
        if name in choices:
            members.append(_group(name, choices[name].members(), choices[name].help))
        elif name == "model":
            members.append(_group(name, model.members(), model.help))
        elif name in FLAT_SECTIONS:
            members += _members(value)
        elif isinstance(value, Record):
            members.append(_group(name, _members(value), type(value).__doc__ or ""))
        elif name not in _NO_FLAGS:
            members.append(_Member(name, info.annotation, value, info.description or ""))
    flags = tyro.cli(
        _record("Flags", members, ""),
        args=list(argv),
        prog=prog,
        description=f"Recipe {recipe.recipe}.",
    )
    values: dict[str, Any] = dict(vars(flags), recipe=recipe.recipe)
    # Another file is read anew.
    values["deepspeed"] = None if "deepspeed_config" in given else recipe.deepspeed
    for name, value in values.items():
        if name in choices:
            values[name] = choices[name].part(vars(value), given)
        elif name == "model":
            values[name] = model.part(vars(value), given)
        elif name not in SECTION_OF and isinstance(getattr(recipe, name), Record):
            values[name] = type(getattr(recipe, name))(**vars(value))
    return RunConfig(**values)


@dataclass(frozen=True)
class _Member:
    """One flag, or one group of flags.

    Args:
        name: with underscores.
        annotation: its type.
        value: the default; MISSING where the flag has to be given.
        help: what `--help` says.
    """

    name: str
    annotation: Any
    value: Any
    help: str


@dataclass(frozen=True)
class _Choice:
    """What stands for one exchangeable part once the command line has been looked at.

    Args:
        role: the part's role.
        kind: the name of the class; None for the rule's own.
        cls: the class; None where the rule has none of its own.
        recipe: the recipe's part, where it still counts.
    """

    role: Role
    kind: str | None
    cls: type | None
    recipe: Part | None

    @property
    def options(self) -> tuple[Option, ...]:
        return signature_fields(self.cls) if self.cls else ()

    @property
    def help(self) -> str:
        if self.cls is None:
            return f"The {self.role.noun}: none."
        return f"The {self.role.noun} {self.cls.__name__}: {_summary(self.cls)}"

    def members(self) -> list[_Member]:
        names = ", ".join([*self.role.names, "module:Class or file.py:Class"])
        own = (
            f"; None: the rule's own, {self.cls.__name__ if self.cls else 'none'}"
            if self.kind is None
            else ""
        )
        annotation = str | None if self.role.optional else str
        fixed = [_Member("kind", annotation, self.kind, names + own)]
        if self.recipe is not None:
            fixed += [
                member for member in _members(self.recipe) if member.name not in Part.model_fields
            ]
        if taken := {member.name for member in fixed} & {option.name for option in self.options}:
            raise UsageError(
                f"{self.kind} has an argument {min(taken)}.",
                f"{self.role.flag(min(taken))} already means something else.",
                "Rename the argument.",
            )
        known = (
            check_options(self.cls, self.recipe.options)
            if self.cls and self.recipe and self.recipe.options
            else {}
        )
        helps = _argument_help(self.cls) if self.cls else {}
        for option in self.options:
            value = known.get(option.name, MISSING if option.required else option.default)
            fixed.append(_Member(option.name, option.annotation, value, helps.get(option.name, "")))
        return fixed

    def part(self, values: dict[str, Any], given: dict[str, str]) -> Part | None:
        """The part, from the values of its flags. Options that neither recipe nor flags name stay
        out of it."""
        kept = self.recipe.options if self.recipe else {}
        options = _written(self.options, self.role.group, values, given, kept)
        kind = self.kind or (exported_name(self.cls) if self.cls and options else None)
        if kind is None:
            return None
        made = Part if self.recipe is None else type(self.recipe)
        extra = {name: values[name] for name in made.model_fields.keys() - Part.model_fields.keys()}
        return made(kind=kind, options=options, **extra)


@dataclass(frozen=True)
class _ModelChoice:
    """Which classes stand for the model and its block once the command line has been looked at.

    Args:
        chosen: the part, with those of the recipe's options that the classes still have.
    """

    chosen: ModelPart

    @classmethod
    def of(cls, recipe: ModelPart, given: dict[str, str]) -> Self:
        kind = given.get("model.kind") or recipe.kind
        block = given.get("model.block") or recipe.block
        chosen = ModelPart(kind=kind, block=block)
        if chosen == ModelPart(kind=recipe.kind, block=recipe.block):
            return cls(recipe)
        known = {option.name for option in chosen.known_options()}
        kept = {name: value for name, value in recipe.options.items() if name in known}
        return cls(ModelPart(kind=kind, block=block, options=kept))

    @property
    def help(self) -> str:
        said = (
            f"{role.noun} {cls.__name__}: {_summary(cls)}"
            for role, cls in (
                (ROLES["model"], self.chosen.model_class),
                (BLOCK, self.chosen.block_class),
            )
        )
        return "The " + " Its ".join(said)

    def members(self) -> list[_Member]:
        members = [
            _Member(
                role.selector,
                str,
                getattr(self.chosen, role.selector),
                ", ".join([*role.names, "module:Class or file.py:Class"]),
            )
            for role in (ROLES["model"], BLOCK)
        ]
        values = self.chosen.values_known()
        helps: dict[str, str] = {}
        for cls in reversed(self.chosen.classes):
            helps |= _argument_help(cls)
        for option in self.chosen.known_options():
            value = values.get(option.name, MISSING)
            members.append(
                _Member(option.name, option.annotation, value, helps.get(option.name, ""))
            )
        return members

    def part(self, values: dict[str, Any], given: dict[str, str]) -> ModelPart:
        known = self.chosen.known_options()
        options = _written(known, "model", values, given, self.chosen.options)
        return ModelPart(kind=self.chosen.kind, block=self.chosen.block, options=options)


def _written(
    known: Iterable[Option],
    group: str,
    values: dict[str, Any],
    given: dict[str, str],
    kept: dict[str, Any],
) -> dict[str, Any]:
    """The options that recipe or flags name, as JSON values; others stay out of a part."""
    return {
        option.name: option.adapter.dump_python(values[option.name], mode="json")
        for option in known
        if option.name in kept
        or given.keys() & {f"{group}.{word}{option.name}" for word in ("", "no_")}
    }


def _choices(recipe: RunConfig, given: dict[str, str]) -> dict[str, _Choice]:
    """Which class stands in each role."""

    def choose(name: str, part: Part | None, own: type | None) -> _Choice:
        role = ROLES[name]
        kind = given.get(f"{name}.kind") or (part.kind if part else None)
        if kind is None or (role.optional and kind == "None"):
            return _Choice(role, None, own, None)
        cls = resolve(kind, role.base)
        if part is not None and cls is not resolve(part.kind, role.base):
            part = part.model_copy(update={"options": {}})
        return _Choice(role, kind, cls, part)

    halting = choose("halting", recipe.halting, None)
    same_rule = halting.cls is resolve(recipe.halting.kind, ROLES["halting"].base)
    cost = choose(
        "cost", recipe.cost if same_rule else None, getattr(halting.cls, "default_cost", None)
    )
    meant = getattr(cost.cls, "default_readout", None) or getattr(
        halting.cls, "default_readout", None
    )
    return {
        "halting": halting,
        "readout": choose("readout", recipe.readout if same_rule else None, meant),
        "cost": cost,
        "data": choose("data", recipe.data, None),
        **{
            name: choose(name, getattr(recipe, name), None)
            for name in ("objective", "optimizer", "schedule")
        },
    }


def _with_penalty_of(recipe: RunConfig, cost: type | None) -> RunConfig:
    """The recipe without its penalty where the cost is not its own."""
    rule = resolve(recipe.halting.kind, ROLES["halting"].base)
    own = (
        resolve(recipe.cost.kind, ROLES["cost"].base)
        if recipe.cost
        else getattr(rule, "default_cost", None)
    )
    if cost is None or cost is own:
        return recipe
    warmup = recipe.penalty.warmup if cost.warms_up else 0
    penalty = recipe.penalty.model_copy(update={"value": None, "warmup": warmup})
    return recipe.model_copy(update={"penalty": penalty})


def _summary(cls: type) -> str:
    """The first paragraph of a class's docstring."""
    return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")


def _argument_help(cls: type) -> dict[str, str]:
    """The "Args:" of a class's docstring, by name."""
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in (inspect.getdoc(cls) or "").partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if entry := re.match(r"    (\w+(?:, \w+)*): (.*)", line):
            names = entry[1].split(", ")
            texts |= dict.fromkeys(names, entry[2])
        else:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return {name: text.rstrip(".") for name, text in texts.items()}


def given_flags(argv: Sequence[str]) -> dict[str, str]:
    """The flags that are there, with underscores, and the value of each ("" if it has none); tyro
    does the parsing."""
    found = {}
    for word, following in zip_longest(argv, argv[1:], fillvalue=""):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name.replace("-", "_")] = value or (
                "" if equals or following.startswith("--") else following
            )
    return found


def _check_values(argv: Sequence[str]) -> None:
    """Refuses `--flag=--`: the parser would drop the value, and take the flag as if it had none."""
    for word in argv:
        if word.startswith("--") and word.endswith("=--"):
            raise UsageError(
                f"{word} has no value.",
                "-- alone ends flags, and is no value of one.",
                f"Write {word[:-2]}VALUE, or leave the flag out.",
            )


def _members(record: Record) -> list[_Member]:
    fields = type(record).model_fields.items()
    return [
        _Member(name, info.annotation, getattr(record, name), info.description or "")
        for name, info in fields
    ]


def _group(name: str, members: list[_Member], text: str) -> _Member:
    group = _record(name, members, text)
    return _Member(name, group, MISSING, text)


def _record(name: str, members: list[_Member], text: str) -> type:
    """A dataclass for tyro to fill."""
    fields = [
        (
            member.name,
            Annotated[member.annotation, tyro.conf.arg(help=member.help)],
            field()
            if member.value is MISSING
            else field(default_factory=lambda value=member.value: value),
        )
        for member in members
    ]
    record = make_dataclass(name, fields, kw_only=True)
    record.__doc__ = text
    return record
