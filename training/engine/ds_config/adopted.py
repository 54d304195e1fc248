"""A run and its ds_config as one: what the file says becomes the run's, where no flag says
otherwise."""

import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from halting.errors import UsageError, raise_all
from training.config.record import flag_name
from training.config.run_config import RunConfig
from training.console.text_file import read_json
from training.engine.ds_config.batch_sizes import Said, solve
from training.engine.ds_config.keys import TABLE
from training.engine.ds_config.rehearsal import deepspeed_objections
from training.engine.ds_config.sorted_settings import SortedSettings, shown
from training.engine.ds_config.taken_values import TakenValue, is_on, number, taken_values
from training.engine.ds_config.zero_keys import ZERO
from training.engine.ds_config.zero_section import settle_zero
from training.engine.optimizer import check_optimizer, check_sharding


@dataclass(frozen=True)
class Adopted:
    """A run with its ds_config.

    Args:
        config: the run; its `deepspeed` is what DeepSpeed gets beside the run's own numbers.
        says: lines for the screen: what was taken over, and what has no effect.
    """

    config: RunConfig
    says: tuple[str, ...] = ()


def adopt(config: RunConfig, ranks: int, flags: Collection[str] | None = None) -> Adopted:
    """Reads the file that a config names, once: a config that has been through here, as that of a
    run that is resumed, stays as it is.

    Args:
        config: the run.
        ranks: how many there are.
        flags: the fields that a person has given, such as "optimizer.learning_rate"; None: those
            that are not as RunConfig has them by default.

    Raises:
        UsageError: for a file that cannot be read, and, all at once, for what in it cannot be:
            keys that nobody reads, settings of what is not here, and values that contradict flags.
    """
    if config.launch.deepspeed_config is None:
        return Adopted(config if config.deepspeed is None else config.replace(deepspeed=None))
    path = Path(config.launch.deepspeed_config)
    if config.deepspeed is not None:
        config = config.replace(deepspeed=_kept(config.deepspeed))
        if flags is None or not _has_changed(path, config):
            return Adopted(config)
        changed = f"{path.name} has changed since this run began, which goes on as it began"
        anew = f"--deepspeed-config {shlex.quote(str(path))} reads it anew"
        return Adopted(config, (f"{changed}; {anew}",))
    given = read_ds_config(path)
    settings = SortedSettings.of(given, str(path))
    settle_zero(settings, given.get(ZERO))
    taken = list(taken_values(settings, config))
    told = _given_by_default(config) if flags is None else set(flags)
    agreed = _without_contradictions(settings, config, taken, told)
    sizes = _batch_sizes(settings, config, ranks, told)
    made = _replaced(settings, config, agreed, sizes)
    _check_whole(settings, made, agreed)
    if settings.reasons and os.environ.get("RANK", "0") == "0":
        settings.reasons += deepspeed_objections(settings.passed, settings.where, on_gpu(made))
    raise_all(settings.reasons)
    return Adopted(
        made.replace(deepspeed=settings.passed), tuple(_says(settings, config, agreed, sizes))
    )


def _kept(deepspeed: dict[str, Any]) -> dict[str, Any]:
    """What a config.json keeps for DeepSpeed, which a person may have edited."""
    settings = SortedSettings.of(deepspeed, "config.json, deepspeed")
    settle_zero(settings, deepspeed.get(ZERO))
    for key, value in settings.taken.items():
        says = TABLE[key].says
        settings.refuse(key, value, f"It is the run's own there: {says}.", "Move it there.")
    raise_all(settings.reasons)
    return settings.passed


def _has_changed(path: Path, config: RunConfig) -> bool:
    """Whether a file is there that has DeepSpeed do something else than a run's own settings."""
    try:
        given = read_ds_config(path)
    except UsageError:
        return False
    settings = SortedSettings.of(given, str(path))
    settle_zero(settings, given.get(ZERO))
    return settings.passed != config.deepspeed


def read_ds_config(path: Path) -> dict[str, Any]:
    """The settings of a file.

    Raises:
        UsageError: for a file that is not there, is no text in UTF-8 or no JSON, gives a key twice,
            or holds something else than named settings.
    """
    given = read_json(
        path,
        f"--deepspeed-config {path}",
        "It is the JSON file with the ZeRO, offload and communication settings.",
        "ds_configs/zero2.json",
    )
    if not isinstance(given, dict):
        raise UsageError(
            f"{path} does not hold named settings.",
            "A ds_config is a JSON object.",
            'Write {"zero_optimization": {"stage": 2}}.',
        )
    return given


def _given_by_default(config: RunConfig) -> set[str]:
    """The fields that a config has otherwise than RunConfig by default."""
    usual = RunConfig(recipe=config.recipe, data=config.data)
    found = set()
    for name in ("batch_size", "accumulation", "updates", "precision", "report_to"):
        if getattr(config, name) != getattr(usual, name):
            found.add(name)
    for group in ("optimizer", "schedule"):
        ours = getattr(config, group)
        theirs = getattr(usual, group)
        for name in type(ours).model_fields:
            if name != "options" and getattr(ours, name) != getattr(theirs, name):
                found.add(f"{group}.{name}")
        found |= {f"{group}.{name}" for name in ours.options}
    return found


def _without_contradictions(
    settings: SortedSettings, config: RunConfig, taken: list[TakenValue], told: set[str]
) -> dict[tuple[str, ...], TakenValue]:
    """What is taken, by its path; what a flag says otherwise becomes a reason. Of two keys of one
    file, the later counts, as with DeepSpeed: a scheduler's learning rate."""
    agreed: dict[tuple[str, ...], TakenValue] = {}
    closed: set[str] = set()
    for value in taken:
        flag = ".".join(word for word in value.path if word != "options")
        there = _value(config, value.path)
        if value.path[0] in closed and value.path[-1] != "learning_rate":
            continue  # the numbers of another optimizer or schedule
        if flag in told and not _same(there, value.value):
            settings.reasons.append(
                UsageError(
                    f"{settings.where}: {value.key} = {shown(value.given)}, but "
                    f"{flag_name(*value.path)} = {_spoken(there)}.",
                    "Both decide the same.",
                    f'Drop {flag_name(*value.path)}, or write "auto" for {value.key} in the file.',
                )
            )
            if value.path[-1] == "kind":
                closed.add(value.path[0])
            continue
        if value.path in agreed:
            settings.ignored.append(agreed[value.path].key)
        agreed[value.path] = value
    return agreed


def _batch_sizes(
    settings: SortedSettings, config: RunConfig, ranks: int, told: set[str]
) -> dict[str, int]:
    """Batch and accumulation, where the file says something about them."""
    said: dict[str, Said | None] = {}
    keys = {"batch_size": "train_batch_size", "accumulation": "gradient_accumulation_steps"}
    for name, key in keys.items():
        value = number(settings, key, 1, whole=True)
        said[name] = Said(int(value), f"{settings.where}: {key} = {value}") if value else None
        if name not in told:
            continue
        ours = getattr(config, name)
        if value is not None and value != ours:
            settings.reasons.append(
                UsageError(
                    f"{settings.where}: {key} = {value}, but {flag_name(name)} = {ours}.",
                    "Both decide the same number.",
                    f'Drop {flag_name(name)}, or write "auto" for {key} in the file.',
                )
            )
        said[name] = Said(ours, f"{flag_name(name)} {ours}")
    key = "train_micro_batch_size_per_gpu"
    value = number(settings, key, 1, whole=True)
    micro = Said(int(value), f"{settings.where}: {key} = {value}") if value else None
    if not any(name in settings.taken for name in (*keys.values(), key)):
        return {}
    try:
        batch, accumulation = solve(
            said["batch_size"], micro, said["accumulation"], ranks, config.accumulation
        )
    except UsageError as error:
        settings.reasons.append(error)
        return {}
    sizes = {"batch_size": batch, "accumulation": accumulation}
    return {
        name: value
        for name, value in sizes.items()
        if value is not None and not (name in told and value != getattr(config, name))
    }


def _replaced(
    settings: SortedSettings,
    config: RunConfig,
    agreed: dict[tuple[str, ...], TakenValue],
    sizes: dict[str, int],
) -> RunConfig:
    """The run with what is taken; as it was, where that cannot be."""
    changes: dict[str, Any] = dict(sizes)
    for group in ("optimizer", "schedule"):
        part = getattr(config, group)
        fields = {path[1]: each.value for path, each in agreed.items() if path[:1] == (group,)}
        fields.pop("options", None)
        options = {
            path[2]: each.value for path, each in agreed.items() if path[:2] == (group, "options")
        }
        if not fields and not options:
            continue
        same = "kind" not in fields or _same(part.kind, fields["kind"])
        if same:
            fields.pop("kind", None)
        fields["options"] = {**(part.options if same else {}), **options}
        changes[group] = fields
    for path, each in agreed.items():
        if len(path) == 1:
            changes[path[0]] = each.value
    whole = changes.get("batch_size", config.batch_size)
    passes = changes.get("accumulation", config.accumulation)
    if whole % passes:
        settings.reasons.append(
            UsageError(
                f"{settings.where}: gradient_accumulation_steps and train_batch_size make "
                f"{passes} backward passes of {whole} examples.",
                "Each takes an equal share of the examples of an update.",
                f"Write --batch-size {-(-whole // passes) * passes}, or another number there.",
            )
        )
        return config
    try:
        parts = {
            name: getattr(config, name).replace(**change)
            for name, change in changes.items()
            if isinstance(change, dict)
        }
        return config.replace(**{**changes, **parts})
    except UsageError as error:
        settings.reasons.append(
            UsageError(f"{settings.where}: {error.what}", error.why, error.write)
        )
        return config


def _check_whole(
    settings: SortedSettings, config: RunConfig, agreed: dict[tuple[str, ...], TakenValue]
) -> None:
    """Adds what only shows once file and run are one."""
    stage = settings.passed[ZERO]["stage"]
    try:
        check_sharding(config.optimizer, stage, settings.where)
        if any(path[0] == "optimizer" for path in agreed):
            check_optimizer(config.optimizer)
    except UsageError as error:
        settings.reasons.append(
            UsageError(f"{settings.where}: {error.what}", error.why, error.write)
        )
    if config.precision == "bf16_weights" and stage == 0:
        settings.refuse(
            f"{ZERO}.stage",
            0,
            "--precision = bf16_weights. Without ZeRO, DeepSpeed's wrapper around bf16 weights "
            "keeps the float32 ones where no checkpoint of ours finds them, and drifts further "
            "from float32 than the other stages do.",
            "Write stage 1, which holds less and trains alike, or --precision bf16.",
        )
    if config.precision == "fp16" and agreed.get(("precision",)) and not on_gpu(config):
        taken = agreed[("precision",)]
        settings.refuse(
            taken.key,
            taken.given,
            "It would be --precision fp16, which GPUs alone have; processors compute it by way of "
            "float32 and gain nothing.",
            'Write "auto" there, which leaves the precision to the run, or train on a GPU.',
        )


def _says(
    settings: SortedSettings,
    config: RunConfig,
    agreed: dict[tuple[str, ...], TakenValue],
    sizes: dict[str, int],
) -> list[str]:
    name = Path(settings.where).name
    changed = [
        f"{flag_name(path)} {value}"
        for path, value in sizes.items()
        if getattr(config, path) != value
    ]
    changed += [
        f"{flag_name(*path)} {_spoken(each.value)}"
        for path, each in agreed.items()
        if not _same(_value(config, path), each.value)
    ]
    lines = [f"{name} says {', '.join(changed)}"] if changed else []
    idle = [key for key in settings.ignored if _matters(settings, key)]
    if idle:
        lines.append(f"{name}: without effect here: {', '.join(idle)} (docs/ds_config.md says why)")
    return lines


def _matters(settings: SortedSettings, key: str) -> bool:
    """Whether what is ignored would have an effect with DeepSpeed: not in a section that is off."""
    section = key.partition(".")[0]
    switched = section in ("fp16", "bf16", "tensorboard", "wandb", "csv_monitor", "comet")
    return not switched or is_on(settings, section)


def _value(config: RunConfig, path: tuple[str, ...]) -> Any:
    found: Any = config
    for word in path:
        found = found.get(word) if isinstance(found, dict) else getattr(found, word)
    return found


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) and isinstance(theirs, str):
        return ours.rpartition(":")[2] == theirs.rpartition(":")[2]
    return ours == theirs


def _spoken(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def on_gpu(config: RunConfig) -> bool:
    """Whether a run computes on a GPU: it is told to, or there is one."""
    return config.launch.device == "cuda" or (
        config.launch.device == "auto" and torch.cuda.is_available()
    )
