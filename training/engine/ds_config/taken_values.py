"""What a ds_config says of optimizer, schedule, precision, clipping and monitors, as values of a
run."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from training.config.parts import ROLES, resolve, signature_fields
from training.config.run_config import RunConfig
from training.engine.ds_config.sorted_settings import SortedSettings

OPTIMIZERS = {"adam": "AdamW", "adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}
"""DeepSpeed's names. (Its Adam is AdamW, unless adam_w_mode says otherwise.)"""
SCHEDULES = {
    "WarmupLR": "WarmupConstant",
    "WarmupDecayLR": "WarmupLinear",
    "WarmupCosineLR": "WarmupCosine",
}
_MOST = 1e300
NO_CLIPPING = 1e30
"""gradient_clipping 0, which is none, as a norm that no gradient has."""


@dataclass(frozen=True)
class TakenValue:
    """A value of the run that a file says.

    Args:
        path: of the field in RunConfig; the options of a part stand under "options".
        value: of the field.
        key: of the file.
        given: its value there.
    """

    path: tuple[str, ...]
    value: Any
    key: str
    given: Any


def taken_values(settings: SortedSettings, config: RunConfig) -> Iterator[TakenValue]:
    """All but the batch sizes; what cannot be taken becomes a reason.

    Args:
        settings: of the file.
        config: the run as it is without the file.
    """
    yield from _optimizer(settings, config)
    yield from _schedule(settings, config)
    yield from _precision(settings, config)
    yield from _clip(settings)
    yield from _monitors(settings, config)


def number(
    settings: SortedSettings, key: str, least: float = 0.0, whole: bool = False
) -> float | None:
    """A number that the file says; None where it says none, or something else, which is refused."""
    if key not in settings.taken:
        return None
    value = settings.taken[key]
    with contextlib.suppress(ValueError):  # of a text: "3e-5", which YAML and shells make one of
        value = float(value) if isinstance(value, str) else value
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not least <= value < _MOST  # NaN too
        or (whole and value != int(value))
    ):
        kind = "a whole number" if whole else "a number"
        settings.refuse(
            key, settings.taken[key], f"It is {kind}, {least:g} or more.", 'Write one, or "auto".'
        )
        return None
    return int(value) if whole else float(value)


def is_on(settings: SortedSettings, section: str) -> bool:
    """Whether a section's `enabled` switches it on; what is neither on nor off is refused."""
    value = settings.taken.get(key := f"{section}.enabled", False)
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    settings.refuse(key, value, "It is a switch: true or false.", 'Write one, or "auto".')
    return False


def _optimizer(settings: SortedSettings, config: RunConfig) -> Iterator[TakenValue]:
    section = "optimizer.params."
    asked = settings.taken.get("optimizer.type")
    kind = None
    if asked is not None:
        kind = OPTIMIZERS.get(str(asked).lower())
        if kind is None:
            settings.refuse(
                "optimizer.type",
                asked,
                f"A run's optimizers are {', '.join(ROLES['optimizer'].names)}, or a class of your "
                "own.",
                "Write one of these there (Adam and AdamW are AdamW), or drop the section and "
                "write --optimizer.kind file.py:Class.",
            )
            return
        yield TakenValue(("optimizer", "kind"), kind, "optimizer.type", asked)
    for name, field, least in (("lr", "learning_rate", 0.0), ("weight_decay", "weight_decay", 0.0)):
        if (value := number(settings, section + name, least)) is not None:
            yield TakenValue(("optimizer", field), value, section + name, value)
    options: dict[str, tuple[str, Any]] = {}
    betas = settings.taken.get(section + "betas")
    if betas is not None:
        if not isinstance(betas, list) or len(betas) != 2:
            settings.refuse(
                section + "betas", betas, "It is two numbers.", "Write [0.9, 0.95], for example."
            )
        else:
            for name, value in zip(("beta1", "beta2"), betas, strict=True):
                if value != "auto":
                    options[name] = (section + "betas", value)
    for name in ("eps", "momentum", "nesterov"):
        if section + name in settings.taken:
            options[name] = (section + name, settings.taken[section + name])
    known = _options_of("optimizer", kind or config.optimizer.kind)
    for name, (key, value) in options.items():
        if name in known:
            yield TakenValue(("optimizer", "options", name), value, key, value)
        elif value not in (0, False):
            holder = kind or config.optimizer.kind
            has = ", ".join(sorted(known))
            settings.refuse(key, value, f"{holder} has no {name}; it has {has}.", "Drop it.")


def _schedule(settings: SortedSettings, config: RunConfig) -> Iterator[TakenValue]:
    section = "scheduler.params."
    asked = settings.taken.get("scheduler.type")
    kind = None
    if asked is not None:
        names = {name.lower(): kind for name, kind in SCHEDULES.items()}
        kind = names.get(str(asked).lower())
        if kind is None:
            settings.refuse(
                "scheduler.type",
                asked,
                f"Of DeepSpeed's schedules a run has {', '.join(SCHEDULES)}; its own are "
                f"{', '.join(ROLES['schedule'].names)}.",
                "Write one of these, or drop the section and write --schedule.kind file.py:Class.",
            )
            return
        yield TakenValue(("schedule", "kind"), kind, "scheduler.type", asked)
    known = _options_of("schedule", kind or config.schedule.kind)
    warmup = number(settings, section + "warmup_num_steps", 0, whole=True)
    if warmup is not None and "warmup" in known:
        key = section + "warmup_num_steps"
        yield TakenValue(("schedule", "options", "warmup"), warmup, key, warmup)
    final = number(settings, section + "cos_min_ratio", 0)
    if "final_fraction" in known and (final is not None or kind == "WarmupLinear"):
        key = section + "cos_min_ratio" if final is not None else "scheduler.type"
        given = final if final is not None else asked
        yield TakenValue(("schedule", "options", "final_fraction"), final or 0.0, key, given)
    if (peak := number(settings, section + "warmup_max_lr")) is not None:
        key = section + "warmup_max_lr"
        yield TakenValue(("optimizer", "learning_rate"), peak, key, peak)
    total = number(settings, section + "total_num_steps", 1, whole=True)
    if total is not None:
        yield TakenValue(("updates",), total, section + "total_num_steps", total)


def _precision(settings: SortedSettings, config: RunConfig) -> Iterator[TakenValue]:
    on: dict[str, str] = {}
    for name in ("fp16", "bf16"):
        if is_on(settings, name):
            on[f"{name}.enabled"] = name
    if is_on(settings, "torch_autocast"):
        dtype = str(settings.taken.get("torch_autocast.dtype", "bfloat16"))
        names = {"bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "fp16": "fp16"}
        name = names.get(dtype.removeprefix("torch.").replace("half", "float16"))
        if name is None:
            settings.refuse(
                "torch_autocast.dtype", dtype, "Autocast has bfloat16 and float16.", "Write one."
            )
        else:
            on["torch_autocast.enabled"] = name
    if len(set(on.values())) > 1:
        settings.refuse(
            " and ".join(on),
            True,
            "A run computes in one precision, and DeepSpeed refuses both.",
            "Leave one of them, or write --precision bf16 and drop both.",
        )
        return
    for key, name in on.items():
        # bf16 weights are what DeepSpeed's own bf16.enabled means.
        agrees = name == "bf16" and config.precision == "bf16_weights" and key == "bf16.enabled"
        yield TakenValue(("precision",), "bf16_weights" if agrees else name, key, True)


def _clip(settings: SortedSettings) -> Iterator[TakenValue]:
    clip = number(settings, "gradient_clipping")
    if clip is not None:
        yield TakenValue(("optimizer", "clip"), clip or NO_CLIPPING, "gradient_clipping", clip)


def _monitors(settings: SortedSettings, config: RunConfig) -> Iterator[TakenValue]:
    names = {"csv_monitor": "csv", "tensorboard": "tensorboard", "wandb": "wandb", "comet": "comet"}
    on = [
        (f"{section}.enabled", name) for section, name in names.items() if is_on(settings, section)
    ]
    reports = tuple(config.report_to)
    missing = [(key, name) for key, name in on if name not in reports]
    if missing:
        value = (*reports, *(name for _, name in missing))
        yield TakenValue(("report_to",), value, " and ".join(key for key, _ in missing), True)


def _options_of(group: str, kind: str) -> set[str]:
    role = ROLES[group]
    return {option.name for option in signature_fields(resolve(kind, role.base))}
