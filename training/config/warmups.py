"""Warm-ups of a run that is shortened: they keep their share of it."""

from collections.abc import Sequence

from training.config.parts import ROLES, resolve, signature_fields
from training.config.run_config import RunConfig
from training.config.sections import Part

_PARTS = ("schedule", "halting")
"""The parts whose classes may have an option `warmup`, counted in updates."""


def with_warmups_scaled(
    config: RunConfig, share: float, besides: frozenset[str] = frozenset()
) -> RunConfig:
    """The config with its warm-ups, in updates, at this share of what they are.

    Args:
        config: the run.
        share: its updates ÷ those that the warm-ups were meant for.
        besides: flags whose values stay as they are, such as "penalty.warmup".
    """
    changed = {}
    if "penalty.warmup" not in besides:
        warmup = round(config.penalty.warmup * share)
        changed["penalty"] = config.penalty.model_copy(update={"warmup": warmup})
    for name in _PARTS:
        if f"{name}.warmup" not in besides:
            changed[name] = _scaled(name, getattr(config, name), share)
    return config.model_copy(update=changed)


def shortened(recipe: RunConfig, config: RunConfig, words: Sequence[str]) -> RunConfig:
    """The config that flags have made of a recipe; where they shorten it, its warm-ups are
    shortened alike, those aside that the flags give.

    Args:
        recipe: before the flags.
        config: after them.
        words: the flags.
    """
    if config.updates >= recipe.updates:
        return config
    names = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    given = frozenset(name.replace("_", "-") for name in names)
    return with_warmups_scaled(config, config.updates / recipe.updates, given)


def scaled_text(before: RunConfig, after: RunConfig) -> str | None:
    """Which warm-ups differ between two configs, in words; None where none does."""
    moved = []
    if before.penalty.warmup != after.penalty.warmup:
        moved.append(f"--penalty.warmup {before.penalty.warmup} → {after.penalty.warmup}")
    for name in _PARTS:
        old = _warmup(name, getattr(before, name))
        new = _warmup(name, getattr(after, name))
        if old != new:
            moved.append(f"--{name}.warmup {old} → {new}")
    return ", ".join(moved) or None


def _scaled(name: str, part: Part, share: float) -> Part:
    warmup = _warmup(name, part)
    if not isinstance(warmup, int) or round(warmup * share) == warmup:
        return part
    options = {**part.options, "warmup": round(warmup * share)}
    return part.model_copy(update={"options": options})


def _warmup(name: str, part: Part) -> object:
    """The warm-up of a part, its own or its class's; None where it has none."""
    known = {
        option.name: option.default
        for option in signature_fields(resolve(part.kind, ROLES[name].base))
    }
    return part.options.get("warmup", known.get("warmup")) if "warmup" in known else None
