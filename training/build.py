"""From a RunConfig to the things that it describes."""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch

from act.accounting.flops import Flops, count_flops
from act.blocks.block import LoopBlock
from act.loop.backprop import Backprop, Checkpointed, LastSteps, Truncated
from act.loop.recurrence import Recurrence
from act.models.looped_model import LoopedModel
from act.models.probe import check_block, check_model, check_rule
from halting.costs.cost import PonderCost
from halting.errors import UsageError
from halting.readout import EveryStep, Readout
from halting.rule import HaltingRule
from halting.wrappers.min_steps import MinSteps
from halting.wrappers.one_ahead import OneAhead
from halting.wrappers.per_sequence import PerSequence
from training.config.parts import build
from training.config.run_config import RunConfig
from training.config.sections import LoopConfig
from training.console.too_large import said_if_too_large
from training.distributed.dealing import ByDifficulty, ByLength, ByPonder, Predictor
from training.engine.model_inputs import extra_inputs
from training.engine.optimizer import check_optimizer
from training.objectives.objective import Objective
from training.optimizers.schedules.schedule import Schedule
from training.ponder_penalty.actuator import actuator_of
from training.ponder_penalty.penalty import Penalty
from training.ponder_penalty.ramp import RampPenalty
from training.ponder_penalty.scheduled import ConstantPenalty, coefficient
from training.ponder_penalty.step_target import steps_of
from training.ponder_penalty.target_penalty import TargetPenalty
from training.tasks.check_task import check_attributes, check_task
from training.tasks.kept_data import KeptData
from training.tasks.task import Task

SMALLER = "Write smaller sizes (--model.width, --data.length); --dry-run tells what they need."


@dataclass(frozen=True)
class Built:
    """What a run is made of.

    Args:
        task, model, cost: of the run.
        objective: what is minimised beside the cost; `prepare` comes before a training.
        schedule: of the learning rate.
        penalty: what the cost weighs; it moves with the training.
        predictor: what guesses the costs of sequences, where they are dealt by that.
        flops: of a token of the longest sequence; counted here, while each parameter is whole.
    """

    task: Task
    model: LoopedModel
    cost: PonderCost | None
    penalty: Penalty
    objective: Objective
    schedule: Schedule
    predictor: Predictor | None = None
    flops: Flops | None = None


def build_task(config: RunConfig, kept_data: KeptData | None = None) -> Task:
    """The task, with the run's seed.

    Args:
        config: the run.
        kept_data: what a run that is read back keeps of its data: a task that takes it reads
            nothing until it is asked for examples; another one is checked here.

    Raises:
        UsageError: for one without a vocabulary or a length, and for data that are not those that
            the run was trained on.
    """
    if kept_data is not None and kept_data.kind != config.data.kind:
        kept_data = None
    task: Task = build(config.data, Task, seed=config.seed, kept_data=kept_data)
    check_attributes(task)
    if kept_data is not None and "kept_data" not in inspect.signature(type(task)).parameters:
        kept_data.check(task.identity())
    return task


def build_objective(config: RunConfig) -> Objective:
    """What is minimised beside the ponder cost."""
    return build(config.objective, Objective)


def build_schedule(config: RunConfig) -> Schedule:
    """The learning rate over the run.

    Raises:
        UsageError: for one whose first factor is no number of 0 or more.
    """
    schedule = build(config.schedule, Schedule)
    first = schedule(0, config.updates)
    if not (math.isfinite(first) and first >= 0):
        raise UsageError(
            f"--schedule.kind {config.schedule.kind} gives {first!r} for the first update.",
            "It is what the peak of the learning rate is multiplied by.",
            "Have its __call__ return a finite number, 0 or more.",
        )
    return schedule


def build_rule(config: RunConfig) -> HaltingRule:
    """The halting rule in its wrappers."""
    rule: HaltingRule = build(
        config.halting, HaltingRule, dim=config.model.width, max_steps=config.loop.max_steps
    )
    one_ahead = config.halting.one_ahead
    # The decision that takes effect at step k is that of step k − 1.
    min_steps = config.halting.min_steps - one_ahead
    if min_steps > 1:
        rule = MinSteps(rule, min_steps)
    if config.halting.per_sequence:
        rule = PerSequence(rule)
    return OneAhead(rule) if one_ahead else rule


def build_cost(config: RunConfig, rule: HaltingRule) -> PonderCost | None:
    """The ponder cost: the one named, else the rule's own.

    Raises:
        UsageError: for a cost that reads what the rule does not say, or whose gradient cannot reach
            the rule's gate.
    """
    if config.cost is None:
        return rule.default_cost() if rule.default_cost is not None else None
    cost: PonderCost = build(config.cost, PonderCost, max_steps=config.loop.max_steps)
    cost.check_aux(rule.gives_aux, config.halting.kind)
    if cost.needs_spread_mass and not rule.spreads_mass:
        raise UsageError(
            f"{type(cost).__name__} needs a rule that spreads its mass over steps, but "
            f"{config.halting.kind} puts all of it on the step it leaves.",
            "No gradient of the cost would reach the gate.",
            "Use --halting.kind GravesACT, or drop the cost.",
        )
    return cost


def build_readout(config: RunConfig, rule: HaltingRule, cost: PonderCost | None) -> Readout:
    """The readout: the one named, else the one that the cost is meant for, else the rule's own.

    Raises:
        UsageError: for a readout that lacks what the cost reads, and one under which nothing would
            train the rule.
    """
    own = (cost.default_readout if cost is not None else None) or rule.default_readout
    readout: Readout = build(config.readout, Readout) if config.readout is not None else own()
    if cost is not None and cost.needs_outcomes and not readout.keeps_states:
        raise UsageError(
            f"{type(cost).__name__} needs the answer of every step, but {type(readout).__name__} "
            "keeps the last one.",
            "It compares what the model would have said at each step.",
            f"Use --readout.kind {(cost.default_readout or EveryStep).__name__}, or another cost.",
        )
    by_mass = rule.spreads_mass and "mass" in readout.weighs_by
    by_task = rule.gives_gain or by_mass or not set(rule.gives_aux).isdisjoint(readout.weighs_by)
    learns = any(parameter.requires_grad for parameter in rule.parameters())
    if learns and not by_task and not coefficient(config.penalty.value, cost):
        lacks = "it comes without a ponder cost" if cost is None else "its cost has the penalty 0"
        raise UsageError(
            f"Nothing would train {config.halting.kind}: {lacks}, and under "
            f"{type(readout).__name__} the task's loss does not depend on it.",
            "It would halt by its starting values to the end.",
            "Leave --readout.kind and --cost.kind to the rule, and give --penalty.value above 0; "
            "for fixed depth, use --halting.kind FixedSteps.",
        )
    return readout


def build_backprop(config: LoopConfig) -> Backprop:
    """The scheme that the loop's gradient follows."""
    schemes = {
        "full": Backprop(),
        "truncated": Truncated(config.truncate_every),
        "one_step": Truncated(1),
        "truncated_last": LastSteps(config.last_steps),
        "checkpointed": Checkpointed(),
    }
    return schemes[config.backprop]


def build_predictor(config: RunConfig, task: Task) -> Predictor | None:
    """What guesses the costs of sequences, for dealing them; None where they go as they come.

    Raises:
        UsageError: for one that the task does not allow.
    """
    if config.balance_by == "length":
        return ByLength()
    if config.balance_by == "difficulty":
        return ByDifficulty(task)
    return ByPonder(task) if config.balance_by == "ponder" else None


def build_model(config: RunConfig, task: Task) -> tuple[LoopedModel, PonderCost | None]:
    """The model, initialised from the run's seed whatever was drawn before, and frozen where the
    run does not train it; with the ponder cost that its readout has to suit."""
    part = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        rule = build_rule(config)
        cost = build_cost(config, rule)
        readout = build_readout(config, rule, cost)
        loop = {
            "max_steps": config.loop.max_steps,
            "path": config.loop.path,
            "backprop": build_backprop(config.loop),
        }
        of_task = {"causal": task.causal, "max_length": task.max_length}
        attention = {"attention": config.loop.attention}

        def make_block() -> LoopBlock:
            return part.make_block(**loop, **of_task, **attention)

        def make_recurrence() -> Recurrence:
            return Recurrence(make_block(), rule, readout, **loop)

        # Made only where the model asks for them, as each draws weights.
        asked = inspect.signature(part.model_class).parameters
        made: dict[str, Any] = {"make_block": make_block}
        if "block" in asked and "make_block" not in asked:
            made["block"] = make_block()
        if "recurrence" in asked:
            made["recurrence"] = make_recurrence()
        model = part.make_model(
            vocab_size=task.vocab_size,
            vector_size=task.vector_size,
            rule=rule,
            readout=readout,
            **of_task,
            **loop,
            **attention,
            **made,
        )
        if ":" in part.kind:
            check_model(model, task.vocab_size, task.vector_size)
            model.use(rule, readout)
        if ":" in part.kind + part.block:
            check_block(model.recurrence.block, model.width, task.causal, model.max_length)
    if config.train_only == "rule":
        _freeze_all_but_rule(model, config)
    return model, cost


def _freeze_all_but_rule(model: LoopedModel, config: RunConfig) -> None:
    """Raises UsageError where that would train nothing, or when to stop a model that never
    learns."""
    if config.start_from is None:
        raise UsageError(
            "--train-only rule comes without --start-from.",
            "The rule would learn when to stop a model that has learned nothing, and never will.",
            "Write --start-from RUN with a trained run, or drop --train-only.",
        )
    rule = list(model.recurrence.rule.parameters())
    if not any(parameter.requires_grad for parameter in rule):
        raise UsageError(
            f"--train-only rule comes with --halting.kind {config.halting.kind}.",
            "It has no parameters, so nothing would learn.",
            "Choose a rule with a gate, such as GravesACT, or drop --train-only.",
        )
    learns = {id(parameter) for parameter in rule}
    for parameter in model.parameters():
        if id(parameter) not in learns:
            parameter.requires_grad_(False)


def build_all(config: RunConfig, kept_data: KeptData | None = None) -> Built:
    """Task, model, cost and penalty; everything that cannot work together is refused here, before
    anything is written.

    Args:
        config: the run.
        kept_data: as `build_task` takes it.
    """
    task = build_task(config, kept_data)
    with said_if_too_large("The model", SMALLER):
        model, cost = build_model(config, task)
    penalty = make_penalty(config, cost)
    with said_if_too_large("An example of the task", SMALLER):
        check_parts(config, task, model)
    flops = count_flops(model, task.max_length, checkpointed=config.loop.backprop == "checkpointed")
    predictor = build_predictor(config, task)
    objective = build_objective(config)
    return Built(task, model, cost, penalty, objective, build_schedule(config), predictor, flops)


def check_parts(config: RunConfig, task: Task, model: LoopedModel) -> None:
    """Refuses a task that does not keep what tasks promise, batches that the model cannot read, a
    rule of one's own that the loop cannot go by, and an optimizer, schedule or objective that
    cannot be built.

    Raises:
        UsageError: for one of these.
    """
    used = {
        "train": config.updates * config.batch_size,
        "validation": config.evaluation.eval_examples,
        "test": config.evaluation.test_examples,
    }
    check_task(task, used)
    example = task.batch("train", 0, 2)
    inputs = extra_inputs(model, example)
    if ":" in config.halting.kind:
        check_rule(model, example.tokens, example.valid, **inputs)
    check_optimizer(config.optimizer)
    build_schedule(config)
    build_objective(config)


def make_penalty(config: RunConfig, cost: PonderCost | None) -> Penalty:
    """The penalty of a run, as it stands before the first update.

    Args:
        config: the run.
        cost: what it weighs; a target may move its prior.

    Raises:
        UsageError: for a target or a ramp that this run cannot have.
    """
    given = config.penalty
    weight = coefficient(config.penalty.value, cost)
    if given.target_steps is not None:
        target = _target_in_steps(config, given.target_steps)
        actuator = actuator_of(cost, weight, target, config.halting.kind, config.loop.max_steps)
        if config.loop.train_depth != "fixed":
            raise UsageError(
                f"--penalty.target-steps comes with --loop.train-depth {config.loop.train_depth}.",
                "A random step limit cuts the ponder that is measured, and evaluation, at the full "
                "limit, would show another.",
                "Write --loop.train-depth fixed, or set --penalty.value by hand.",
            )
        return TargetPenalty(actuator, target, config.updates, given.warmup or config.updates // 3)
    if given.ramp is not None:
        if cost is None or cost.unit != "steps":
            raise UsageError(
                "--penalty.ramp comes with "
                f"{'no ponder cost' if cost is None else f'the cost {type(cost).__name__}'}.",
                "A rising weight takes away steps only where the cost is counted in steps.",
                "Use a cost in steps, such as that of --halting.kind GravesACT, or drop the ramp.",
            )
        return RampPenalty(*given.ramp, given.warmup, config.updates)
    return ConstantPenalty(weight, given.warmup)


def _target_in_steps(config: RunConfig, target: str) -> float:
    limit = config.loop.max_steps
    return steps_of(target, limit, config.halting.fewest_steps(limit))


def penalty_text(config: RunConfig, cost: PonderCost | None) -> str:
    """The penalty in a few words, for headers."""
    given = config.penalty
    if cost is None:
        return "no ponder cost"
    if given.target_steps is not None:
        target = _target_in_steps(config, given.target_steps)
        return f"{cost.steered_by or 'penalty'} steered to {target:g} steps"
    if given.ramp is not None:
        return f"penalty {given.ramp[0]:g} to {given.ramp[1]:g}"
    return f"penalty {coefficient(given.value, cost):g}"
