"""`ponder train … --dry-run`: what a run would be, worked out from its config; nothing is trained or written."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from act.model import LoopedTransformer
from halting.costs.cost import PonderCost
from halting.errors import UsageError
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.per_sequence import PerSequence
from training.build import build_cost, build_model, build_task
from training.config import LoopConfig, RunConfig
from training.engine.ds_config import deepspeed_settings
from training.flops import Flops, count_flops
from training.memory import STAGES, RankMemory, activation_bytes, rank_memory
from training.ponder_penalty import described
from training.precision import ARITHMETIC
from training.start_from import read_start
from training.table import aligned
from training.tasks.task import Task

_INDENT, _COLUMNS = "  ", 80


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
        stage: the ZeRO stage that the run asks for; 0 without DeepSpeed.
        memory: of a rank, for each ZeRO stage.
        full_activations, checkpointed_activations: estimated bytes of one backward pass on a rank, if no token halts.
        checkpointed: which of the two it would be.
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
    stage: int
    memory: tuple[RankMemory, ...]
    full_activations: int
    checkpointed_activations: int
    checkpointed: bool
    notes: tuple[str, ...]


def report(config: RunConfig, ranks: int = 1) -> str:
    """The dry run of a config as text of at most 80 columns.

    Raises:
        UsageError: for whatever training would refuse: parts that cannot work together, a ds_config that contradicts
            the config, a batch that the ranks cannot share.
    """
    found = plan(config, ranks)
    name = config.recipe if ":" not in config.recipe else Path(config.recipe).name
    parts = (
        f"Dry run of {name} for {_count(ranks, 'rank')}: nothing is trained or written.",
        _pairs(found.choices),
        _parameters(found),
        _flops(found),
        _memory(found),
        _wrapped("notes", found.notes) if found.notes else "",
    )
    return "\n\n".join(part for part in parts if part)


def plan(config: RunConfig, ranks: int = 1) -> DryRun:
    """The figures behind `report`. No weight is allocated, so that a large model takes no longer than a small one.

    Raises:
        UsageError: as `report`.
    """
    _refuse_shares(config, ranks)
    settings = deepspeed_settings(config, ranks) if config.deepspeed_config is not None else {}
    task = build_task(config)
    model = _shape_of(config, task)
    if config.start_from is not None:
        read_start(config, model)
    cost = build_cost(config, model.recurrence.rule)
    sequences = config.batch_size // (ranks * config.accumulation)
    steps, checkpointed = config.loop.max_steps, config.loop.backprop == "checkpointed"
    tokens, bf16 = sequences * task.max_length, ARITHMETIC[config.precision].autocast is not None
    full, thrifty = (activation_bytes(model, tokens, steps, checkpointed=each, bf16=bf16) for each in (False, True))
    return DryRun(
        ranks=ranks,
        choices=_choices(config, task, model, cost, settings),
        parameters=_by_part(model),
        flops=count_flops(model, task.max_length, checkpointed),
        length=task.max_length,
        max_steps=steps,
        tokens_per_update=config.batch_size * task.max_length,
        sequences=sequences,
        stage=settings.get("zero_optimization", {}).get("stage", 0),
        memory=tuple(rank_memory(model, model.recurrence, stage, ranks) for stage in STAGES),
        full_activations=full,
        checkpointed_activations=thrifty,
        checkpointed=checkpointed,
        notes=tuple(_notes(config, ranks, settings)),
    )


def _shape_of(config: RunConfig, task: Task) -> LoopedTransformer:
    """The model without its weights, or with them where a part of somebody's own asks for numbers while it is built."""
    try:
        with _NoDraws(), torch.device("meta"):
            return build_model(config, task)
    except (NotImplementedError, RuntimeError):
        return build_model(config, task)


class _NoDraws(TorchFunctionMode):
    """Leaves out draws: tensors without storage have no values, and asking for them imports torch's compiler."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _refuse_shares(config: RunConfig, ranks: int) -> None:
    whole = ranks * config.accumulation
    if config.batch_size % whole:
        raise UsageError(
            f"--batch-size {config.batch_size} cannot be shared by {_count(ranks, 'rank')} with --accumulation "
            f"{config.accumulation}.",
            "Each takes an equal share of the examples of an update.",
            f"Write --batch-size {-(-config.batch_size // whole) * whole}.",
        )


def _by_part(model: LoopedTransformer) -> dict[str, int]:
    parts: dict[str, nn.Module | None] = {
        "embeddings": model.embedding,
        "position embeddings": model.position_embedding,
        "prelude": model.prelude,
        "looped block": model.recurrence.block,
        "halting rule": model.recurrence.rule,
        "readout": model.recurrence.readout if isinstance(model.recurrence.readout, nn.Module) else None,
        "coda": model.coda,
        "final norm": model.norm,
        "output head": model.head,
    }
    counts: dict[str, int] = {}
    seen: set[int] = set()
    for name, part in parts.items():
        new = [] if part is None else [each for each in part.parameters() if id(each) not in seen]
        seen.update(map(id, new))
        if new or name in ("embeddings", "looped block", "halting rule", "output head"):
            counts[name] = sum(each.numel() for each in new)
    return {**counts, "total": sum(each.numel() for each in model.parameters())}


def _choices(
    config: RunConfig, task: Task, model: LoopedTransformer, cost: PonderCost | None, settings: dict
) -> dict[str, str]:
    rule, own, loop = model.recurrence.rule, "the rule's own", config.loop
    wrapped = [f"at least {config.halting.min_steps} steps"] if config.halting.min_steps > 1 else []
    wrapped += ["whole sequences at a time"] if config.halting.per_sequence else []
    while isinstance(rule, MinSteps | PerSequence):
        rule = rule.rule
    readout, meant = type(model.recurrence.readout).__name__, config.cost and cost and cost.default_readout
    kind = "one process, plain PyTorch"
    if settings:
        kind = f"DeepSpeed, ZeRO-{settings['zero_optimization']['stage']} ({config.deepspeed_config})"
    shape = config.model
    return {
        "task": f"{type(task).__name__}, {task.vocab_size} kinds of token, {'' if task.causal else 'not '}causal",
        "model": f"width {shape.width}, {_count(shape.num_heads, 'head')}, layers "
        f"{shape.prelude_layers} + {'GRU cell' if shape.block == 'gru' else shape.num_layers} looped + "
        f"{shape.coda_layers}",
        "loop": f"at most {_count(loop.max_steps, 'step')}{_depth(loop)}, {loop.path} path, {loop.backprop} backprop",
        "rule": ", ".join([type(rule).__name__, *_options(config.halting.options), *wrapped]),
        "readout": readout if config.readout else f"{readout} (the {'cost' if meant else 'rule'}'s own)",
        "cost": "none" if cost is None else _cost(config, cost, own),
        "precision": ARITHMETIC[config.precision].says,
        "engine": kind,
    }


def _depth(loop: LoopConfig) -> str:
    return "" if loop.train_depth == "fixed" else f" (drawn for each update: {loop.train_depth})"


def _options(options: dict) -> list[str]:
    return [f"{name} {json.dumps(value)}" for name, value in options.items()]


def _cost(config: RunConfig, cost: PonderCost, own: str) -> str:
    name, warmup = type(cost).__name__ + ("" if config.cost else f" ({own})"), config.penalty.warmup
    return f"{name}, {described(config, cost)}" + (f" after {warmup} updates of warm-up" if warmup else "")


def _notes(config: RunConfig, ranks: int, settings: dict) -> Iterator[str]:
    zero = settings.get("zero_optimization", {})
    if ranks > 1 and config.deepspeed_config is None:
        yield (f"{ranks} ranks need --deepspeed-config, such as ds_configs/zero1.json: without it, the run is refused.")
    for name, what in (("offload_optimizer", "AdamW and copy lie"), ("offload_param", "the parameters lie")):
        section = zero.get(name)
        where = section.get("device", "none") if isinstance(section, dict) else "none"
        if where != "none":
            yield f"With {name}, {what} on {'the CPU' if where == 'cpu' else where} instead of the device."
    if zero.get("stage", 0):
        bucket = zero.get("reduce_bucket_size")
        size = 4 * (bucket if isinstance(bucket, int | float) else 5e8)
        yield (
            f"DeepSpeed adds communication buffers: reduce_bucket_size allows {_bytes(size)} each, "
            "whatever the model's size; a smaller one in the ds_config saves that."
        )
    if config.device == "cuda" and not torch.cuda.is_available():
        yield "--device cuda: torch sees no GPU on this machine, so the run would be refused here."
    if config.name is not None and (Path(config.output) / config.name).exists():
        yield f"{Path(config.output) / config.name} exists already: the run would be refused; write another --name."


def _parameters(found: DryRun) -> str:
    total = found.parameters["total"]
    rows = [[name, f"{count:,}", f"{100 * count / total:.1f}%"] for name, count in found.parameters.items()]
    return _table(["parameters", "", ""], rows)


def _flops(found: DryRun) -> str:
    flops, last = found.flops, found.max_steps
    rows = [
        [f"at {_count(steps, 'step')}", _number(flops.forward(steps)), _number(flops.training(steps))]
        for steps in sorted({1, last})
    ]
    rows.append(["each step more", _number(flops.step), _number(flops.training(1) - flops.training(0))])
    again = f" + n x {_number(flops.recomputed)}, computed again on the way back" if flops.recomputed else ""
    less = f" - {_number(flops.unasked)}" if flops.unasked else ""
    training = f"training(n) = 3 x forward(n){less}{again}"
    formulas = f"forward(n) = {_number(flops.once)} + n x {_number(flops.step)}", training
    least, most = (_number(found.tokens_per_update * flops.training(steps)) for steps in (1, last))
    tokens = f"an update of {found.tokens_per_update:,} tokens"
    update = f"{tokens}: {least} (1 step each) to {most} ({_count(last, 'step')} each)"
    lines = (*formulas, f"attention counted over all {found.length:,} positions", update)
    return "\n".join([_table(["FLOPs per token", "forward", "training"], rows), *(_INDENT + line for line in lines)])


def _memory(found: DryRun) -> str:
    head = ["memory per rank", "parameters", "gradients", "AdamW", "copy", "gathered", "sum"]
    rows = []
    for each in found.memory:
        parts = (each.parameters, each.gradients, each.optimizer, each.copy, each.gathered, each.total)
        name = f"ZeRO-{each.stage}" + (" *" if each.stage == found.stage else "")
        rows.append([name, *(_bytes(part) if part else "-" for part in parts)])
    lines = [_table(head, rows), f"{_INDENT}* this run", ""]
    chosen = found.memory[found.stage].total
    kinds = (("full", found.full_activations, False), ("checkpointed", found.checkpointed_activations, True))
    table = []
    for name, count, checkpointed in kinds:
        mark = " *" if checkpointed == found.checkpointed else ""
        table.append([f"{name} backprop{mark}", _bytes(count), _bytes(chosen + count)])
    title = f"activations of {_count(found.sequences, 'sequence')} x {found.length:,}"
    lines.append(_table([title, "estimate", f"with ZeRO-{found.stage}"], table))
    lines.append(f"{_INDENT}if no token halts before step {found.max_steps}; attention without its L x L matrix")
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Columns under a head, the rows indented."""
    return aligned(head, [[_INDENT + row[0], *row[1:]] for row in rows])


def _pairs(pairs: dict[str, str]) -> str:
    width = max(map(len, pairs)) + 2
    return "\n".join(
        textwrap.fill(says, _COLUMNS, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, says in pairs.items()
    )


def _wrapped(title: str, notes: tuple[str, ...]) -> str:
    lines = [textwrap.fill(note, _COLUMNS, initial_indent="  ! ", subsequent_indent="    ") for note in notes]
    return "\n".join([title, *lines])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _number(value: float) -> str:
    """1234567 → 1.23 M."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def _bytes(value: float) -> str:
    """1234567 → 1.23 MB; decimal units."""
    return f"{_number(value)}B" if value >= 1e3 else f"{value:.0f} B"
