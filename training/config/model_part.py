"""The model of a run, and the block that it loops, as one exchangeable part."""

import inspect
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import field_validator, model_validator
from torch import nn

from act.blocks.block import LoopBlock
from act.blocks.plain import PlainBlock
from act.models.looped_model import LoopedModel
from halting.errors import UsageError
from training.config.importing import absolute
from training.config.parts import (
    ROLES,
    Option,
    check_values,
    make,
    resolve,
    signature_fields,
)
from training.config.sections import Part
from training.console.too_large import is_too_large

_MODEL = ROLES["model"]


class ModelPart(Part):
    """The model, and the block that it loops. An option goes to the class of the model, to that of
    the block, or to both, whichever signatures take it; where both do, the model's default counts.

    `ModelPart(width=8, block="GRUBlock")` is short for `ModelPart(block="GRUBlock",
    options={"width": 8})`.
    """

    group = "model"
    kind: str = "LoopedTransformer"
    """the model: LoopedTransformer, module:Class or path/to/file.py:Class"""
    block: str = "Block"
    """what it loops: an exported name such as Block or GRUBlock, module:Class or
    path/to/file.py:Class"""

    if TYPE_CHECKING:

        def __init__(self, **values: Any): ...

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = {name: value for name, value in given.items() if name in cls.model_fields}
        flat = {name: value for name, value in given.items() if name not in fields}
        nested = fields.get("options", {})
        return {**fields, "options": {**nested, **flat}} if isinstance(nested, dict) else given

    @field_validator("block")
    @classmethod
    def _findable_block(cls, block: str) -> str:
        return absolute(block)

    @property
    def model_class(self) -> type[LoopedModel]:
        """The class of the model."""
        return resolve(self.kind, LoopedModel)

    @property
    def block_class(self) -> type[nn.Module]:
        """The class of the block."""
        return resolve(self.block, nn.Module)

    @property
    def classes(self) -> tuple[type, ...]:
        """Whose docstrings say what the options are."""
        block = self.block_class
        return (self.model_class, block, *_wrapping(block))

    def known_options(self) -> tuple[Option, ...]:
        """All options that there are, the model's first.

        Raises:
            UsageError: for a class that no config can describe, and an option that is called as a
                field of this record.
        """
        model = self.model_class
        block = self.block_class
        named: dict[str, Option] = {}
        for option in (*signature_fields(model), *_block_options(block)):
            if option.name in type(self).model_fields:
                raise UsageError(
                    f"{self.kind} or {self.block} has an argument {option.name}.",
                    f"{_MODEL.flag(option.name)} already means something else.",
                    "Rename the argument.",
                )
            named.setdefault(option.name, option)
        for name, value in model.block_defaults.items():
            if name in named and name not in inspect.signature(model).parameters:
                given = named[name]
                named[name] = Option(name, given.annotation, value, given.adapter)
        return tuple(named.values())

    def values(self) -> dict[str, Any]:
        """Every option that has a value, given or by default, as the classes want it.

        Raises:
            UsageError: for an option that neither class takes, one that is lacking, and a value of
                the wrong type.
        """
        known = self.known_options()
        given = check_values(self._named, known, self.options, _MODEL)
        return {option.name: given.get(option.name, option.default) for option in known}

    @property
    def _named(self) -> str:
        return f"{self.model_class.__name__} of {self.block_class.__name__}"

    def values_known(self) -> dict[str, Any]:
        """The same where options may still be lacking, as before flags are read."""
        known = self.known_options()
        lacking = {option.name for option in known if option.required} - self.options.keys()
        present = [option for option in known if option.name not in lacking]
        given = check_values(self._named, present, self.options, _MODEL)
        return {option.name: given.get(option.name, option.default) for option in present}

    def check(self) -> Self:
        """Refuses what cannot be, before anything is built.

        Raises:
            UsageError: as `values`; for a model without a `width`; for sizes that the block refuses
                (its `check_sizes`, where it has one).
        """
        values = self.values()
        if not isinstance(values.get("width"), int):
            raise UsageError(
                f"{_MODEL.flag('kind')} {self.kind} takes no width.",
                "Halting rule and block are built for states of that width.",
                "Give its constructor an argument `width: int`.",
            )
        check_sizes = getattr(self.block_class, "check_sizes", None)
        if check_sizes is not None:
            try:
                make(check_sizes, {**_handed_to_block(values), **values})
            except UsageError as error:
                # A block knows no command line.
                flag = f"{_MODEL.flag('width')} {values['width']} ({self.block})"
                raise UsageError(f"{flag}: {error.what}", error.why, error.write) from None
        return self

    @property
    def width(self) -> int:
        """D, of the states that loop."""
        return self.values()["width"]

    def make_block(self, **context: Any) -> LoopBlock:
        """The block; a module that is none is wrapped for the dense path.

        Args:
            context: what the run hands over: causal, max_length, max_steps, attention.

        Raises:
            UsageError: for a class whose constructor fails.
        """
        values = self.values()
        cls = self.block_class
        given = {**values, **context, **_handed_to_block(values)}
        made = _made(cls, given, f"--model.block {self.block}")
        if isinstance(made, LoopBlock):
            return made
        options = {option.name: values[option.name] for option in _wrapping_options(cls)}
        return PlainBlock(made, causal=context["causal"], **options)

    def make_model(self, **context: Any) -> LoopedModel:
        """The model.

        Args:
            context: what the run hands over, of which the signature says what it asks for.

        Raises:
            UsageError: for a class whose constructor fails.
        """
        return _made(self.model_class, {**self.values(), **context}, f"--model.kind {self.kind}")


def _made(cls: type, values: dict[str, Any], asked: str) -> Any:
    try:
        return make(cls, values)
    except UsageError:
        raise
    except Exception as error:
        if is_too_large(error) or torch.get_default_device().type == "meta":
            # What does not fit is said by who builds it. Else numbers are wanted, perhaps: a
            # dry run then builds it with them.
            raise
        raise UsageError(
            f"{asked} cannot be made: {type(error).__name__}: {error}",
            "Its constructor was called with the options of the run, and failed.",
            "Change its options (--help lists them), or mend its constructor.",
        ) from error


def _handed_to_block(values: dict[str, Any]) -> dict[str, Any]:
    width = values["width"]
    return {
        "dim": width,
        "d_model": width,
        "rotary": values.get("positions", "rotary") == "rotary",
    }


def _wrapping(block: type) -> tuple[type, ...]:
    return () if issubclass(block, LoopBlock) else (PlainBlock,)


def _wrapping_options(block: type) -> tuple[Option, ...]:
    """How a module that is no LoopBlock is to be called: options of `PlainBlock`."""
    return tuple(
        option for cls in _wrapping(block) for option in signature_fields(cls, ("module", "causal"))
    )


def _block_options(block: type) -> tuple[Option, ...]:
    return (*signature_fields(block), *_wrapping_options(block))
