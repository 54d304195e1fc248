"""What DeepSpeed is told: the file's ZeRO, offload and communication settings, and the run's own
numbers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from halting.errors import UsageError
from training.config.parts import did_you_mean
from training.config.precision import ARITHMETIC, Precision
from training.config.record import flag_name
from training.config.run_config import RunConfig
from training.engine.optimizer import check_sharding

SECTIONS = (
    "zero_optimization",
    "communication_data_type",
    "prescale_gradients",
    "gradient_predivide_factor",
    "sparse_gradients",
    "checkpoint",
    "aio",
    "comms_logger",
    "flops_profiler",
    "wall_clock_breakdown",
    "memory_breakdown",
)
"""What a ds_config may hold of its own accord."""


@dataclass(frozen=True)
class Decided:
    """A number that RunConfig decides.

    Args:
        path: its keys in a ds_config.
        value: what it is.
        source: the flag that says so, with its value.
    """

    path: tuple[str, ...]
    value: Any
    source: str

    @property
    def key(self) -> str:
        return ".".join(self.path)


def deepspeed_settings(config: RunConfig, ranks: int) -> dict[str, Any]:
    """The settings that `deepspeed.initialize` gets.

    Args:
        config: the run; its `deepspeed_config` names the file.
        ranks: how many there are.

    Raises:
        UsageError: for a file that is not there or not JSON, a section that is not a ds_config's
            business, a number that conflicts with the run's, and a batch that ranks and
            accumulation cannot share equally.
    """
    assert config.launch.deepspeed_config is not None
    path = Path(config.launch.deepspeed_config)
    given = _read(path)
    for name in ("fp16", "bf16"):
        _check_precision_section(path, name, given.pop(name, None), config.precision)
    decided = list(_decided(config, ranks))
    _check_sections(path, given, {*SECTIONS, *(fact.path[0] for fact in decided)})
    stage = given.setdefault("zero_optimization", {}).setdefault("stage", 0)
    if stage not in (0, 1, 2, 3) or isinstance(stage, bool):
        raise UsageError(
            f"{path}: zero_optimization.stage = {json.dumps(stage)}.",
            "ZeRO has the stages 0 (nothing is sharded), 1 (optimizer state), 2 (gradients too) "
            "and 3 (parameters too).",
            "Write 0, 1, 2 or 3.",
        )
    if config.precision == "bf16_weights":
        _check_stage(path, stage)
        given["bf16"] = {"enabled": True}
    check_sharding(config.optimizer, stage, config.launch.deepspeed_config)
    for part in ("offload_optimizer", "offload_param"):
        _check_no_disk_offload(path, part, given["zero_optimization"].get(part))
    for fact in decided:
        _settle(path, given, fact)
    # The optimizer is torch's own also under CPU offload: DeepSpeed's would be compiled at the
    # first step. Others of torch's than its Adams are "untested" under ZeRO: benchmarks/unequal
    # does test them.
    return {**given, "zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}


def _decided(config: RunConfig, ranks: int) -> Iterator[Decided]:
    batch = f"--batch-size = {config.batch_size}"
    accumulation = f"--accumulation = {config.accumulation}"
    share, left = divmod(config.batch_size, ranks * config.accumulation)
    if left:
        raise UsageError(
            f"{batch} cannot be divided among {ranks} ranks and {accumulation}.",
            "Every rank takes an equal share of the examples of every backward pass.",
            f"Write --batch-size {(share + 1) * ranks * config.accumulation}.",
        )
    clip = config.optimizer.clip
    autocast = ARITHMETIC[config.precision].autocast
    precision = f"--precision = {config.precision}"
    yield Decided(("train_batch_size",), config.batch_size, batch)
    yield Decided(("gradient_accumulation_steps",), config.accumulation, accumulation)
    micro = f"{batch} over {ranks} ranks and {accumulation}"
    yield Decided(("train_micro_batch_size_per_gpu",), share, f"{micro} = {share}")
    yield Decided(("gradient_clipping",), clip, f"{flag_name('optimizer', 'clip')} = {clip}")
    yield Decided(("torch_autocast", "enabled"), autocast is not None, precision)
    yield Decided(
        ("torch_autocast", "dtype"),
        str(autocast or torch.bfloat16).removeprefix("torch."),
        precision,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"--deepspeed-config {path} cannot be read: {error.strerror}.",
            "It is the JSON file with the ZeRO, offload and communication settings.",
            "Write the path of one, such as ds_configs/zero2.json.",
        ) from None
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path} is not JSON: {error}.", "DeepSpeed cannot read it.", "Mend that place."
        ) from None
    if not isinstance(given, dict) or not isinstance(given.get("zero_optimization", {}), dict):
        raise UsageError(
            f"{path} does not hold named settings.",
            "A ds_config is a JSON object, and so is its zero_optimization section.",
            'Write {"zero_optimization": {"stage": 2}}.',
        )
    return given


def _check_precision_section(path: Path, name: str, section: Any, precision: Precision) -> None:
    enabled = isinstance(section, dict) and section.get("enabled", False) not in (False, "auto")
    if enabled and (name, precision) != ("bf16", "bf16_weights"):
        raise UsageError(
            f"{path}: {name}.enabled = {json.dumps(section['enabled'])}, but --precision = "
            f"{precision}.",
            f"The precision is the run's own, and {name}.enabled narrows all weights, the halting "
            "unit's too.",
            f"Drop {name} from the file, and write --precision {name}, which runs as autocast over "
            "float32 weights"
            f"{', or --precision bf16_weights, which is bf16.enabled' if name == 'bf16' else ''}.",
        )


def _check_stage(path: Path, stage: int) -> None:
    if stage == 0:
        raise UsageError(
            f"{path}: zero_optimization.stage = 0, but --precision = bf16_weights.",
            "Without ZeRO, DeepSpeed's wrapper around bf16 weights keeps the float32 ones where no "
            "checkpoint of ours finds them, and drifts further from float32 than the other stages "
            "do.",
            "Write stage 1, which holds less and trains alike, or --precision bf16.",
        )


def _check_no_disk_offload(path: Path, part: str, section: Any) -> None:
    if isinstance(section, dict) and section.get("device") == "nvme":
        raise UsageError(
            f'{path}: zero_optimization.{part}.device = "nvme".',
            "A checkpoint reads weights and moments one by one, which was not tried with what is "
            "on a disk.",
            'Write "cpu" there.',
        )


def _check_sections(path: Path, given: dict[str, Any], known: set[str]) -> None:
    for name, value in given.items():
        if name in ("optimizer", "scheduler"):
            raise UsageError(
                f"{path} has the section {name} ({json.dumps(value)}).",
                "Optimizer and learning rate are the run's own, so that every engine trains alike.",
                f"Drop it from the file, and write --optimizer.* flags such as "
                f"{flag_name('optimizer', 'learning_rate')}.",
            )
        if name in ("tensorboard", "wandb", "csv_monitor", "comet"):
            raise UsageError(
                f"{path} has the section {name} ({json.dumps(value)}).",
                "Where figures go is the run's own, with or without DeepSpeed's engine.",
                f"Drop it from the file, and write --report-to {name.removesuffix('_monitor')}.",
            )
        if name not in known:
            raise UsageError(
                f"{path} has the key {name} ({json.dumps(value)}).",
                f"A ds_config holds ZeRO, offload and communication alone: {', '.join(SECTIONS)}.",
                f"{did_you_mean(name, known)}Write one of these, or drop it.",
            )


def _settle(path: Path, given: dict[str, Any], fact: Decided) -> None:
    """Fills a decided number in; an equal one, or "auto", may stand there already."""
    holder = given
    for word in fact.path[:-1]:
        holder = holder.setdefault(word, {})
        if not isinstance(holder, dict):
            raise UsageError(
                f"{path}: {word} = {json.dumps(holder)}.",
                "It is a section.",
                f"Drop {word} from the file.",
            )
    there = holder.get(fact.path[-1], "auto")
    if there not in ("auto", fact.value):
        raise UsageError(
            f"{path}: {fact.key} = {json.dumps(there)}, but {fact.source}.",
            "Both decide the same number.",
            f'Drop {fact.key} from the file (it is filled in), or write "auto" there.',
        )
    holder[fact.path[-1]] = fact.value
