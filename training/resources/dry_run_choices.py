"""What a run is made of, in words."""

import json

from act.models.looped_model import LoopedModel
from halting.costs.cost import PonderCost
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.one_ahead import OneAhead
from halting.wrappers.per_sequence import PerSequence
from training.build import penalty_text
from training.config.precision import ARITHMETIC
from training.config.run_config import RunConfig
from training.config.sections import LoopConfig
from training.console.amounts import counted
from training.tasks.task import Task


def run_choices(
    config: RunConfig, task: Task, model: LoopedModel, cost: PonderCost | None, settings: dict
) -> dict[str, str]:
    rule = model.recurrence.rule
    own = "the rule's own"
    loop = config.loop
    wrapped = [f"at least {config.halting.min_steps} steps"] if config.halting.min_steps > 1 else []
    wrapped += ["whole sequences at a time"] if config.halting.per_sequence else []
    wrapped += ["decided one step ahead"] if config.halting.one_ahead else []
    while isinstance(rule, MinSteps | OneAhead | PerSequence):
        rule = rule.rule
    readout = type(model.recurrence.readout).__name__
    meant = config.cost and cost and cost.default_readout
    kind = "one process, plain PyTorch"
    if settings:
        stage = settings["zero_optimization"]["stage"]
        kind = f"DeepSpeed, ZeRO-{stage} ({config.launch.deepspeed_config})"
    return {
        "task": (
            f"{type(task).__name__}, {task.vocab_size} kinds of token, "
            f"{'' if task.causal else 'not '}causal"
        ),
        **({} if (says := task.says()) is None else {"data": says}),
        "model": ", ".join(
            [
                f"{type(model).__name__} of {_name(config.model.block)}, width {model.width}",
                *_options({**config.model.options, "width": None}),
            ]
        ),
        "loop": (
            f"at most {counted(loop.max_steps, 'step')}{_depth(loop)}, {loop.path} path, "
            f"{loop.backprop} backprop"
        ),
        "rule": ", ".join([type(rule).__name__, *_options(config.halting.options), *wrapped]),
        "readout": readout
        if config.readout
        else f"{readout} (the {'cost' if meant else 'rule'}'s own)",
        "cost": "none" if cost is None else _cost(config, cost, own),
        "precision": ARITHMETIC[config.precision].says,
        "engine": kind,
    }


def _depth(loop: LoopConfig) -> str:
    return "" if loop.train_depth == "fixed" else f" (drawn for each update: {loop.train_depth})"


def _options(options: dict) -> list[str]:
    return [f"{name} {json.dumps(value)}" for name, value in options.items() if value is not None]


def _name(kind: str) -> str:
    return kind.rpartition(":")[2]


def _cost(config: RunConfig, cost: PonderCost, own: str) -> str:
    name = type(cost).__name__ + ("" if config.cost else f" ({own})")
    warmup = config.penalty.warmup
    return f"{name}, {penalty_text(config, cost)}" + (
        f" after {warmup} updates of warm-up" if warmup else ""
    )
