"""A frozen record of a config, and what is said where one cannot be made."""

import typing
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    model_validator,
)

from halting.errors import UsageError
from training.config.spelling import did_you_mean

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


FLAT_SECTION_NAMES = ("evaluation", "saving", "limits", "launch")
"""The sections of a RunConfig whose fields are flags by their own names (`flat_sections`)."""


class _RaisesUsageErrors(ModelMetaclass):
    """Making a record raises UsageError where pydantic would raise ValidationError. (A metaclass,
    because whatever pydantic's own hooks raise as a ValueError comes out wrapped in a
    ValidationError again.)"""

    # The signature that checkers and editors show is the one made from the fields.
    if not TYPE_CHECKING:

        def __call__(cls, *args, **values):
            try:
                return super().__call__(*args, **cls.arranged(values))
            except ValidationError as error:
                raise usage_error(cls, error) from None


class Record(BaseModel, metaclass=_RaisesUsageErrors):
    """A frozen record with known keys and finite numbers only.

    Attributes:
        group: the field of RunConfig that holds it, so that messages can name the flag.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    group: ClassVar[str] = ""

    @model_validator(mode="after")
    def _within_64_bits(self) -> Self:
        for name in type(self).model_fields:
            check_whole_numbers(
                flag_name(*([self.group] if self.group else []), name), getattr(self, name)
            )
        return self

    @classmethod
    def arranged(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values that a record is made of, by field; one that takes them by other names too
        says here where they go."""
        return values

    def replace(self, **changes: Any) -> Self:
        """The same with other values, checked as those of a new one. A dict changes the keys of a
        record that it names, `config.replace(updates=300, penalty={"value": 0.02})`; one with a
        `kind` is a whole part.

        Raises:
            UsageError: for an unknown key and a value that cannot be.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for name, change in changes.items():
            old = values.get(name)
            if isinstance(change, dict) and isinstance(old, Record) and "kind" not in change:
                change = old.replace(**change)
            values[name] = change
        return type(self)(**values)


def check_whole_numbers(flag: str, value: Any) -> None:
    """Refuses whole numbers, also within lists and dicts, beyond 64 bits: tensors, random
    generators and files count no further.

    Args:
        flag: what they were given by.
        value: of a field or an option.

    Raises:
        UsageError: for one of them.
    """
    if isinstance(value, list | tuple):
        for each in value:
            check_whole_numbers(flag, each)
    elif isinstance(value, dict):
        for name, each in value.items():
            option = f"{flag}.{name}" if not flag.endswith(".options") else flag[:-7] + name
            check_whole_numbers(option.replace("_", "-"), each)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(
            f"{flag} has a number of {value.bit_length()} bits.",
            "Whole numbers are kept in 64 bits.",
            f"Write one below {2**63:,}.",
        )


def flag_name(*path: str | int) -> str:
    """A field's flag: ("optimizer", "learning_rate") → --optimizer.learning-rate. The options of a
    part stand beside its kind: ("halting", "options", "epsilon") → --halting.epsilon. The names of
    flat sections are left out: ("saving", "save_every") → --save-every."""
    words = [str(word) for word in path if word not in ("options", *FLAT_SECTION_NAMES)]
    return "--" + ".".join(words).replace("_", "-")


def usage_error(cls: type[Record], error: ValidationError) -> UsageError:
    """The first of pydantic's complaints about a record, in three parts."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    path = first["loc"]
    value = first["input"]
    if isinstance(cause, UsageError):
        return cause
    if first["type"] == "json_invalid":
        return UsageError(
            f"The config is not JSON: {first['msg']}.",
            "It cannot be read at all.",
            "Fix that place.",
        )
    holder = _holder(cls, path[:-1])
    default = None
    if first["type"] == "extra_forbidden":
        keys = _known_keys(holder)
        return UsageError(
            f"There is no key {'.'.join(map(str, path))} (value {value!r}).",
            f"{holder.__name__} has {', '.join(keys)}, and takes no others, so that a misspelt one "
            "is not passed over.",
            f"{did_you_mean(str(path[-1]), keys)}Write one of these, or drop it.",
        )
    if first["type"] == "missing":
        return UsageError(
            f"{holder.__name__} lacks {path[-1]}.", "It has no default.", "Add a value for it."
        )
    if path and str(path[-1]) in FLAT_SECTION_NAMES:
        return UsageError(
            f"{path[-1]} is {value!r}.",
            f"It is a section of the run's config, with {', '.join(_known_keys(holder))}.",
            f"Write keys and values there, or the keys without {path[-1]}.",
        )
    flag = flag_name(*([cls.group] if cls.group else []), *path)
    if path and path[-1] in holder.model_fields:
        default = holder.model_fields[str(path[-1])].get_default(
            call_default_factory=True, validated_data={}
        )
    return UsageError(
        f"{flag} is {value!r}.",
        first["msg"].replace("Input should be", "It has to be") + ".",
        f"Write a value that fits, such as {flag} {default} (the default)."
        if default is not None
        else "Write a value that fits.",
    )


def _known_keys(holder: type[Record]) -> list[str]:
    """The keys that a record takes, those of its flat sections among them."""
    keys = []
    for name in holder.model_fields:
        section = _holder(holder, (name,)) if name in FLAT_SECTION_NAMES else None
        keys += [name] if section in (None, holder) else list(section.model_fields)
    return keys


def _holder(cls: type[Record], path: tuple[str | int, ...]) -> type[Record]:
    """The record, within `cls`, that holds the last field of a path."""
    for word in path:
        field = cls.model_fields.get(str(word))
        kinds = (field.annotation, *typing.get_args(field.annotation)) if field else ()
        cls = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Record)), cls
        )
    return cls
