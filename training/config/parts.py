"""Exchangeable parts by name: from "PonderNet", "my_rule:MyRule" or "my_rule.py:MyRule" to class
and object."""

import importlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from torch import nn

from act.models.looped_model import LoopedModel
from halting import HaltingRule, PonderCost, Readout, UsageError
from training.config.importing import load
from training.config.spelling import did_you_mean
from training.objectives.objective import Objective
from training.optimizers.schedules.schedule import Schedule
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
        selector: the flag, after the group, that names the class.
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
    selector: str = "kind"

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
        if not isinstance(thing, type) or not issubclass(thing, self.base):
            return False
        return self.base is not nn.Module or not any(role.holds(thing) for role in ROLES.values())


OF_MODEL = (
    "vocab_size",
    "vector_size",
    "max_length",
    "causal",
    "rule",
    "readout",
    "recurrence",
    "block",
    "make_block",
    "max_steps",
    "path",
    "backprop",
    "attention",
)
OF_BLOCK = ("dim", "d_model", "causal", "rotary", "max_length", "max_steps", "attention")

ROLES = {
    role.group: role
    for role in (
        Role("halting rule", HaltingRule, "halting", "halting", ("dim", "max_steps")),
        Role("readout", Readout, "halting", "readout", optional=True),
        Role("ponder cost", PonderCost, "halting", "cost", ("max_steps",), optional=True),
        Role("task", Task, "training.tasks", "data", ("seed", "kept_data")),
        Role("model", LoopedModel, "act", "model", OF_MODEL),
        Role("objective", Objective, "training.objectives", "objective"),
        Role(
            "optimizer",
            torch.optim.Optimizer,
            "training.optimizers",
            "optimizer",
            ("params", "lr", "weight_decay"),
        ),
        Role("schedule", Schedule, "training.optimizers.schedules", "schedule"),
    )
}
BLOCK = Role("block", nn.Module, "act", "model", OF_BLOCK, selector="block")
"""What a model loops: a LoopBlock, or any other module from [B L D] to [B L D] on the dense path.
It has no field of its own: it is named, and takes its options, beside the model."""


def role_of(cls: type) -> Role:
    """The role that a class, or the base class of a role, plays."""
    return next((role for role in ROLES.values() if role.holds(cls)), BLOCK)


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
    asked = f"{role.flag(role.selector)} {kind}"
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


def signature_fields(cls: type, handed: tuple[str, ...] | None = None) -> tuple[Option, ...]:
    """The options of a part, read from its signature. An argument that no flag can hold is left out
    if it has a default.

    Args:
        cls: the class.
        handed: arguments that are no options; those of its role's context unless given.

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
    handed = role_of(cls).context if handed is None else handed
    options = []
    for argument in inspect.signature(cls).parameters.values():
        if (
            argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
            or argument.name in handed
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
    return check_values(cls.__name__, signature_fields(cls), options, role_of(cls))


def check_values(
    name: str, among: Iterable[Option], options: dict[str, Any], role: Role
) -> dict[str, Any]:
    """The options (JSON values) of something that has those options, as it wants them.

    Args:
        name: what it is called in messages.
        among: the options that there are.
        options: those given.
        role: whose flags they are.

    Raises:
        UsageError: as `check_options`.
    """
    known = {option.name: option for option in among}
    listed = (
        f"Its options are {', '.join(map(_describe, known.values()))}."
        if known
        else "It has no options."
    )
    for option, value in options.items():
        if option not in known:
            raise UsageError(
                f"{name} has no option {option} ({role.flag(option)} {value!r}).",
                listed,
                f"{did_you_mean(option, known, role.flag)}Drop it, or write one that exists.",
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
                    f"{name} takes {_type_name(option.annotation)} there: "
                    f"{error.errors()[0]['msg'].lower()}.",
                    listed,
                ) from None
        elif option.required:
            raise UsageError(
                f"{name} lacks its option {option.name}.",
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
    return make(cls, {**context, **check_options(cls, part.options)})


def make(cls: Callable[..., PartT], values: Mapping[str, Any]) -> PartT:
    """Calls a class, or a function, with those of the values that its signature asks for."""
    asked = inspect.signature(cls).parameters
    return cls(**{name: value for name, value in values.items() if name in asked})


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
