"""Settings that a run can have and hardly means well, each with the flag that mends."""

import math
from collections.abc import Iterator

from halting.costs.cost import PonderCost
from training.config.parts import build
from training.config.run_config import RunConfig
from training.optimizers.schedules.schedule import Schedule
from training.ponder_penalty import coefficient
from training.tasks.task import Task


def doubts(config: RunConfig, task: Task, cost: PonderCost | None) -> tuple[str, ...]:
    """What a person should know of a config before it trains, in words.

    Args:
        config: the run.
        task, cost: of the run.
    """
    return (*_of_penalty(config, task, cost), *_of_learning_rate(config))


def _of_penalty(config: RunConfig, task: Task, cost: PonderCost | None) -> Iterator[str]:
    if cost is None:
        return
    given = config.penalty
    weight = coefficient(given.value, cost)
    last = config.updates - 1
    mend = f"write --penalty.warmup {config.updates // 4}, or more --updates"
    if given.warmup > last:
        over = f"--penalty.warmup {given.warmup} is longer than the run of {config.updates} updates"
        if given.ramp is not None:
            yield f"{over}: the ramp never begins; {mend}"
        elif given.target_steps is not None:
            yield f"{over}: the target may never be steered to; {mend}"
        elif weight:
            reached = last / given.warmup
            yield (
                f"{over}: the penalty ends at {weight * reached:g}, {reached:.0%} of {weight:g}; "
                f"{mend}"
            )
    guessing = math.log(max(2, task.vocab_size))
    if (
        cost.unit == "steps"
        and given.target_steps is None
        and given.ramp is None
        and weight > guessing
    ):
        yield (
            f"--penalty.value {weight:g}: a step costs {weight:g} nats, above the {guessing:.2g} "
            "that guessing costs, so no step can pay; write --penalty.value 0.01"
        )


def _of_learning_rate(config: RunConfig) -> Iterator[str]:
    optimizer = config.optimizer
    shrinks = optimizer.learning_rate * optimizer.weight_decay
    if shrinks >= 1:
        yield (
            f"--optimizer.learning-rate {optimizer.learning_rate:g} × --optimizer.weight-decay "
            f"{optimizer.weight_decay:g} is {shrinks:g}: from 1 on, decay alone turns each weight "
            "round in a single update; lower one of the two"
        )
    schedule = build(config.schedule, Schedule)
    warmup = getattr(schedule, "warmup", 0)
    if isinstance(warmup, int) and warmup > config.updates:
        reached = schedule(config.updates - 1, config.updates)
        yield (
            f"--schedule.warmup {warmup} is longer than the run of {config.updates} updates: the "
            f"learning rate ends at {reached:.0%} of its peak; write --schedule.warmup "
            f"{config.updates // 10}, or more --updates"
        )
