"""Exchangeable parts by name: from "PonderNet", "my_rule:MyRule" or "my_rule.py:MyRule" to class
and object."""

import importlib
import inspect
import json
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from halting import HaltingRule, PonderCost, Readout, UsageError
from training.config.importing import load
from training.config.spelling import did_you_mean
from training.tasks.task import Task

if TYPE_CHECKING:
    from training.config.sections import Part

PartT = TypeVar("PartT")


@dataclass(frozen=True)
class Role:
    """What an exchangeable part is there for.

    Args:
        noun: what messages call it.
        base: the class that every part of this role derives from.
        package: where the names that need no module are exported.
        group: its field in RunConfig, and the first word of its flags.
        context: arguments that the run itself hands over when it builds the part, so they are no
            options.
        optional: a config may leave it to the halting rule, which brings its own.
    """

    noun: str
    base: type
    package: str
    group: str
    context: tuple[str, ...] = ()
    optional: bool = False

    def flag(self, option: str) -> str:
        """`bias_init` → `--halting.bias-init`."""
        return f"--{self.group}.{option}".replace("_", "-")

    @property
    def exported(self) -> dict[str, Any]:
        """Everything that the package exports, of any role."""
        package = importlib.import_module(self.package)
        return {name: getattr(package, name) for name in getattr(package, "__all__", vars(package))}

    @property
    def names(self) -> list[str]:
        """The exported names that can be chosen: complete classes, all of whose arguments are
        data."""
        return sorted(
            name
            for name, thing in self.exported.items()
            if self.holds(thing) and _is_complete(thing)
        )

    def holds(self, thing: Any) -> bool:
        """Whether it is a class of this role."""
        return isinstance(thing, type) and issubclass(thing, self.base)


ROLES = {
    role.group: role
    for role in (
        Role("halting rule", HaltingRule, "halting", "halting", ("dim", "max_steps")),
        Role("readout", Readout, "halting", "readout", optional=True),
        Role("ponder cost", PonderCost, "halting", "cost", ("max_steps",), optional=True),
        Role("task", Task, "training.tasks", "data", ("seed",)),
    )
}


def role_of(cls: type) -> Role:
    """The role that a class, or the base class of a role, plays."""
    return next(role for role in ROLES.values() if role.holds(cls))


@dataclass(frozen=True)
class Option:
    """One option of a part: an argument of its class that the run does not hand over by itself.

    Args:
        name: the argument.
        annotation: its type.
        default: its default; `inspect.Parameter.empty` where it has to be given.
        adapter: checks and converts values of that type.
    """

    name: str
    annotation: Any
    default: Any
    adapter: TypeAdapter

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def resolve(kind: str, base: type[PartT]) -> type[PartT]:
    """The class that `kind` names.

    Args:
        kind: an exported name, "module:Class" (the current directory is importable) or
            "path/to/file.py:Class".
        base: the base class of its role.

    Raises:
        UsageError: for an unknown name, a module that does not import, or a class of another role.
    """
    role = role_of(base)
    asked = f"{role.flag('kind')} {kind}"
    cls: Any = load(kind, asked) if ":" in kind else role.exported.get(kind)
    if ":" not in kind and not isinstance(cls, type):
        raise UsageError(
            f"{asked}: there is no {role.noun} of this name.",
            f"Those that exist are {', '.join(role.names)}.",
            f"{did_you_mean(kind, role.names)}Write one of them, or your own as module:Class or "
            "path/to/file.py:Class.",
        )
    if not role.holds(cls):
        other = next(
            (f"a {other.noun}" for other in ROLES.values() if other.holds(cls)), "something else"
        )
        raise UsageError(
            f"{asked} is {other}, not a {role.noun}.",
            f"A {role.noun} is a subclass of {role.base.__name__}.",
            f"Write one of {', '.join(role.names)}, or a class of your own that derives from "
            f"{role.base.__name__}.",
        )
    return cast(type[PartT], cls)


def exported_name(cls: type) -> str:
    """The `kind` that finds a class again: its exported name, file.py:Class for a loose file, else
    module:Class."""
    name = cls.__name__
    module = sys.modules[cls.__module__]
    if role_of(cls).exported.get(name) is cls:
        return name
    loose = not module.__package__ and module.__file__
    return (
        f"{Path(module.__file__).absolute()}:{name}"
        if loose and module.__file__
        else f"{cls.__module__}:{name}"
    )


def signature_fields(cls: type) -> tuple[Option, ...]:
    """The options of a part, read from its signature. An argument that no flag can hold is left out
    if it has a default.

    Raises:
        UsageError: where such an argument has no default, so that nothing could build the class
            from a config.
    """
    try:
        hints = typing.get_type_hints(cls.__init__, include_extras=True)
    except NameError as error:
        raise UsageError(
            f"The annotations of {cls.__name__} cannot be read: {error}.",
            "Its arguments become options, whose types come from them.",
            "Import that name when the module runs, not under TYPE_CHECKING only.",
        ) from error
    options = []
    for argument in inspect.signature(cls).parameters.values():
        if (
            argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
            or argument.name in role_of(cls).context
        ):
            continue
        annotation = hints.get(argument.name, type(argument.default))
        if adapter := _data_adapter(annotation):
            options.append(Option(argument.name, annotation, argument.default, adapter))
        elif argument.default is argument.empty:
            raise UsageError(
                f"{cls.__name__} cannot be built from a config: it needs `{argument}`.",
                "Options are numbers, texts and lists of them, told apart by the argument's "
                "annotation.",
                "Annotate it as one of these, give it a default, or choose another class.",
            )
    return tuple(options)


def check_options(cls: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a part (JSON values) as its class wants them.

    Raises:
        UsageError: for an option that the class has not got, one that it lacks, and a value of the
            wrong type.
    """
    role = role_of(cls)
    known = {option.name: option for option in signature_fields(cls)}
    listed = (
        f"Its options are {', '.join(map(_describe, known.values()))}."
        if known
        else "It has no options."
    )
    for name, value in options.items():
        if name not in known:
            raise UsageError(
                f"{cls.__name__} has no option {name} ({role.flag(name)} {value!r}).",
                listed,
                f"{did_you_mean(name, known, role.flag)}Drop it, or write one that exists.",
            )
    checked = {}
    for option in known.values():
        if option.name in options:
            value = options[option.name]
            try:
                # Through JSON, so that strictness is JSON's: a list may become a tuple, but "3"
                # never a number.
                checked[option.name] = option.adapter.validate_json(json.dumps(value), strict=True)
            except ValidationError as error:
                raise UsageError(
                    f"{role.flag(option.name)} is {value!r}.",
                    f"{cls.__name__} takes {_type_name(option.annotation)} there: "
                    f"{error.errors()[0]['msg'].lower()}.",
                    listed,
                ) from None
        elif option.required:
            raise UsageError(
                f"{cls.__name__} lacks its option {option.name}.",
                listed,
                f"Add {role.flag(option.name)} {_type_name(option.annotation).upper()}.",
            )
    return checked


def build(part: "Part", base: type[PartT], **context: Any) -> PartT:
    """The object that a part describes.

    Args:
        part: its class and options.
        base: the base class of its role.
        context: what the run hands over (dim, max_steps, seed): those that the signature asks for
            are passed on.
    """
    cls = resolve(part.kind, base)
    asked_for = inspect.signature(cls).parameters
    handed = {name: value for name, value in context.items() if name in asked_for}
    return cls(**handed, **check_options(cls, part.options))


def _data_adapter(annotation: Any) -> TypeAdapter | None:
    """The adapter of a type whose values can be written as JSON; None for others (modules, tensors,
    functions)."""
    if annotation in (type, type(None), Any):  # no annotation and no default to tell the type
        return None
    try:
        adapter = TypeAdapter(annotation)
        adapter.json_schema()
    except PydanticUserError:
        return None
    return adapter


def _is_complete(cls: type) -> bool:
    """Whether nothing abstract is left (an nn.Module has no ABCMeta to say so), and a config can
    hold its arguments."""
    if any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls)):
        return False
    try:
        signature_fields(cls)
    except UsageError:
        return False
    return True


def _describe(option: Option) -> str:
    default = "required" if option.required else f"default {option.default!r}"
    return f"{option.name} ({_type_name(option.annotation)}, {default})"


def _type_name(annotation: Any) -> str:
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else str(annotation).replace("typing.", "")
    )
