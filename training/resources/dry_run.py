"""`ponder train … --dry-run`: what a run would be, worked out from its config; nothing is trained
or written."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.overrides import TorchFunctionMode

from act.accounting.activation_memory import activation_bytes
from act.accounting.flops import Flops, count_flops
from act.models.looped_model import LoopedModel
from halting.costs.cost import PonderCost
from halting.errors import UsageError
from training.build import (
    SMALLER,
    build_model,
    build_objective,
    build_predictor,
    build_task,
    check_parts,
    make_penalty,
)
from training.config.absolute_paths import with_absolute_paths
from training.config.device import check_gpu
from training.config.precision import ARITHMETIC, check_precision
from training.config.run_config import RunConfig
from training.console.amounts import in_bytes
from training.console.too_large import is_too_large, said_if_too_large
from training.distributed.doctor.compiling import check_can_compile
from training.engine.ds_config import (
    adopt,
    check_with_deepspeed,
    deepspeed_settings,
    on_gpu,
)
from training.engine.monitors import check_installed
from training.engine.optimizer import groups_of, is_elementwise
from training.loop.doubts import doubts
from training.objectives.objective import asks_for_losses
from training.resources.communication_volume import CommunicationVolume, communication_volume
from training.resources.dry_run_choices import run_choices
from training.resources.dry_run_tables import (
    Activations,
)
from training.resources.optimizer_memory import state_per_element
from training.resources.parameters_by_part import parameters_by_part
from training.resources.zero_layout import SHIPPED_BUCKET, ZeroLayout
from training.resources.zero_memory import RankMemory, rank_memory
from training.runs.beginning import (
    check_batch_shares,
    check_can_go_on,
    check_data,
    check_folder_can_be_made,
)
from training.runs.data_file import read_data
from training.runs.loaded import load_run
from training.runs.resume import check_resumable
from training.runs.run_path import RunPath
from training.runs.start_from import read_start
from training.tasks.task import Task


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    Args:
        ranks: for how many ranks.
        choices: what was decided, by name, in words.
        parameters: how many each part has, no tied weight twice; "total" is the last.
        flops: of one token.
        length: L of the longest sequence.
        max_steps: N.
        tokens_per_update: over all ranks, if every sequence has the full length.
        sequences: of one forward pass on one rank.
        memory: of a rank, for each way to share that ds_configs has, and the run's.
        own: the run's among them.
        traffic: what a rank sends, for each ZeRO stage; none for a rank alone.
        activations: of one backward pass on a rank.
        peaks: the most that an update needs on a rank, for each of `memory`.
        notes: what is worth knowing before starting.
    """

    ranks: int
    choices: dict[str, str]
    parameters: dict[str, int]
    flops: Flops
    length: int
    max_steps: int
    tokens_per_update: int
    sequences: int
    memory: tuple[RankMemory, ...]
    own: RankMemory
    communication_volume: tuple[CommunicationVolume, ...]
    activations: Activations
    peaks: tuple[int, ...]
    notes: tuple[str, ...]


def plan(
    config: RunConfig,
    ranks: int = 1,
    resume: RunPath | None = None,
    allow_changed_data: bool = False,
) -> DryRun:
    """The figures behind `dry_run_text`. No weight is allocated, so that a large model takes no
    longer than a small one. What is checked, and in which order, is what `train_run` does.

    Raises:
        UsageError: as `dry_run_text`.
    """
    config = adopt(config, ranks).config
    check_batch_shares(config, ranks)
    if resume is not None:
        check_resumable(resume)
    given = config
    config = with_absolute_paths(config)
    task, model, cost = _parts(config, resume, allow_changed_data)
    if config.start_from is not None and resume is None:
        read_start(config, model, task)
    zero = config.launch.deepspeed_config is not None
    check_precision(config.precision, torch.device("cuda" if on_gpu(config) else "cpu"), zero)
    if zero:
        check_with_deepspeed(config)
    settings = deepspeed_settings(config, ranks) if zero else {}
    damaged: list[str] = []
    if resume is None:
        check_folder_can_be_made(config)
    else:
        damaged = check_can_go_on(resume, model)
    sequences = config.batch_size // (ranks * config.accumulation)
    steps = config.loop.max_steps
    checkpointed = config.loop.backprop == "checkpointed"
    tokens = sequences * task.max_length
    losses = asks_for_losses(
        build_objective(config), model, task, task.batch("train", 0, 1), sequences
    )
    bf16 = ARITHMETIC[config.precision].autocast is not None

    def activations(stage: int) -> Activations:
        full, thrifty = (
            activation_bytes(
                model,
                tokens,
                steps,
                checkpointed=each,
                bf16=bf16,
                stage=stage,
                losses=losses,
            )
            for each in (False, True)
        )
        return Activations(full, thrifty, checkpointed)

    memory = _memory(config, model, ranks, settings, bf16)
    own = next(each for each in memory if each.sharing == _sharing(ranks, settings))
    stages = {each.sharing.stage: each.sharing for each in reversed(memory)} | {
        own.sharing.stage: own.sharing
    }
    return DryRun(
        ranks=ranks,
        choices=run_choices(given, task, model, cost, settings),
        parameters=parameters_by_part(model),
        flops=count_flops(model, task.max_length, checkpointed),
        length=task.max_length,
        max_steps=steps,
        tokens_per_update=config.batch_size * task.max_length,
        sequences=sequences,
        memory=memory,
        own=own,
        communication_volume=tuple(
            communication_volume(model, stages[stage], accumulation=config.accumulation, bf16=bf16)
            for stage in sorted(stages)
        )
        if ranks > 1
        else (),
        activations=activations(own.sharing.stage),
        peaks=tuple(each.peak(activations(each.sharing.stage).bytes) for each in memory),
        notes=(
            *task.warnings(),
            *doubts(config, task, cost),
            *(f"damaged, and passed over: {text}" for text in damaged),
            *_notes(config, ranks, settings),
        ),
    )


def check_here(config: RunConfig) -> Iterator[UsageError]:
    """What a training would be refused for on this machine, though not on another."""
    for check in (
        lambda: check_can_compile() if config.loop.compiled else None,
        lambda: check_gpu(config.launch.device),
        lambda: check_installed(config.report_to) if config.report_to else None,
    ):
        try:
            check()
        except UsageError as error:
            yield error


def _parts(
    config: RunConfig, resume: RunPath | None, allow_changed_data: bool
) -> tuple[Task, LoopedModel, PonderCost | None]:
    """Task, model and cost, checked as `build_all` does."""
    kept_data = None if resume is None else read_data(resume.home, allow_changed_data)
    task = build_task(config, kept_data)
    with said_if_too_large("The model", SMALLER):
        model, cost = _shape_of(config, task)
    make_penalty(config, cost)
    with said_if_too_large("An example of the task", SMALLER):
        check_parts(config, task, model)
    build_predictor(config, task)
    if resume is not None:
        check_data(resume, task, allow_changed_data)
    build_objective(config).prepare(task, load_run)
    return task, model, cost


def _sharing(ranks: int, settings: dict) -> ZeroLayout:
    if settings:
        return ZeroLayout.of(settings["zero_optimization"], ranks)
    # Several ranks without a ds_config are refused when they start; what they would hold is that of
    # stage 0.
    return ZeroLayout(0, ranks, deepspeed=ranks > 1, bucket=int(SHIPPED_BUCKET))


def _memory(
    config: RunConfig, model: LoopedModel, ranks: int, settings: dict, bf16: bool
) -> tuple[RankMemory, ...]:
    groups = [group["params"] for group in groups_of(model, config.optimizer)]
    state = state_per_element(model, config.optimizer)
    whole = not is_elementwise(config.optimizer)
    on_cpu = config.launch.device == "cpu" or not (
        config.launch.device == "cuda" or torch.cuda.is_available()
    )
    return tuple(
        rank_memory(
            model,
            groups,
            way,
            accumulation=config.accumulation,
            cpu=on_cpu,
            bf16=bf16,
            state=state,
        )
        for way in _sharing(ranks, settings).others()
        if not (whole and way.stage)
    )


def _shape_of(config: RunConfig, task: Task) -> tuple[LoopedModel, PonderCost | None]:
    """Model and cost; the model without its weights, or with them where a part of somebody's own
    asks for numbers while it is built, or has to run to tell what it costs."""
    try:
        with _NoDraws(), torch.device("meta"):
            model, cost = build_model(config, task)
    except (NotImplementedError, RuntimeError) as error:
        if is_too_large(error):
            raise
        return build_model(config, task)
    block = model.recurrence.block
    said = (
        block.flops(1),
        block.saved_numbers(),
        model.outside_flops(1),
        model.outside_numbers(),
    )
    return build_model(config, task) if None in said else (model, cost)


class _NoDraws(TorchFunctionMode):
    """Leaves out draws: tensors without storage have no values, and asking for them imports torch's
    compiler."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _notes(config: RunConfig, ranks: int, settings: dict) -> Iterator[str]:
    zero = settings.get("zero_optimization", {})
    if ranks > 1 and config.launch.deepspeed_config is None:
        yield (
            f"{ranks} ranks need --deepspeed-config, such as ds_configs/zero1.json: without it, "
            "the run is refused."
        )
    bucket = zero.get("reduce_bucket_size", 5e8)
    if zero.get("stage", 0) and isinstance(bucket, int | float) and bucket > SHIPPED_BUCKET:
        yield (
            f"reduce_bucket_size allows {in_bytes(4 * bucket)} for gradients that are sent "
            "together, whatever the model's size; 5e7 in the ds_config, as in those of "
            f"ds_configs, makes that {in_bytes(4 * SHIPPED_BUCKET)}."
        )
    if zero.get("stage", 0) == 3 and ZeroLayout.of(zero, ranks).kept(1):
        yield (
            "Stage 3 keeps weights gathered between forward and backward; "
            "stage3_prefetch_bucket_size 0 and stage3_max_reuse_distance 0 in the ds_config let "
            "them go, and gather them twice."
        )
    if ARITHMETIC[config.precision].weights != torch.float32:
        yield (
            f"Memory and communication are told for float32 weights. Under {config.precision} "
            "weights, gradients and what is sent of them take half of that; AdamW and its copy do "
            "not."
        )
    for error in check_here(config):
        yield f"{error.what} {error.why} The run would be refused here: {error.write}"
