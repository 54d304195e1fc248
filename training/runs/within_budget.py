"""What a run with a target for its mean ponder keeps in the end: a model that holds it."""

import math
from dataclasses import dataclass
from typing import Any

from halting.rule import HaltingRule
from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.evaluation.evaluate import evaluate, evaluate_surely
from training.ponder_penalty.step_target import WITHIN
from training.runs.context import TrainingContext

_HALVINGS = 12


@dataclass(frozen=True)
class KeptModel:
    """Which model a run keeps.

    Args:
        update: whose weights.
        options: of the halting rule, where they are others than in training: where no checkpoint
            held the target, the exit is moved until the last one does.
    """

    update: int
    options: dict[str, float]

    def config(self, trained: RunConfig) -> RunConfig:
        """The config that goes with its weights."""
        if not self.options:
            return trained
        halting = trained.halting
        moved = halting.replace(options={**halting.options, **self.options})
        return trained.replace(halting=moved)

    def says(self) -> str:
        """What was kept, in words."""
        if not self.options:
            return f"with the weights of update {self.update}"
        ((name, value),) = self.options.items()
        return f"with {name} {value:.4g} instead of the trained one"


def take_within_budget(context: TrainingContext) -> KeptModel | None:
    """Has the engine take the model that holds the target: the weights of the last checkpoint
    within 1 % of it; else the last weights with their exit moved, or those of the nearest
    checkpoint where these are nearer. None for a run without a target, or where there is no such
    checkpoint and nothing moves the exit. Called by all ranks, which come to one verdict.

    The exit's threshold is an option of most rules (`exit_threshold`); ponder falls with it, so it
    is found by halving, on examples that neither training nor an evaluation has seen.
    """
    held: dict[str, Any] | None = context.progress.budget_checkpoint
    if held is None:
        return None
    target = held["target"]
    update = held["update"]
    near = math.inf if update is None else abs(held["ponder"] / target - 1)
    if near > WITHIN:
        moved = _move_exit(context, target, held["seen"], near)
        if moved is not None:
            return KeptModel(context.progress.update, moved)
    if update is None:
        return None
    if update != context.progress.update:
        checkpoints = context.folder / "checkpoints"
        checkpoint.load(checkpoint.folder_of(checkpoints, update), context.engine)
    return KeptModel(update, {})


def _move_exit(
    context: TrainingContext, target: float, start: int, near: float
) -> dict[str, float] | None:
    """Moves the rule's exit to where the mean ponder of the last weights is nearest to the target,
    and gives the option that is another than in training then. None, and the exit as it was, where
    nothing moves it, or not to within `near` of the target.
    """
    rule: HaltingRule = context.engine.model.recurrence.rule
    while (inner := getattr(rule, "rule", None)) is not None:
        rule = inner
    threshold = rule.exit_threshold
    if threshold is None:
        return None
    trained = getattr(rule, threshold.option)
    config = context.config
    micro_batch = max(1, config.batch_size // (collectives.world_size() * config.accumulation))
    task = context.built.task
    examples = config.evaluation.eval_examples
    tally, number = evaluate_surely(context.engine, task, examples, micro_batch, start)

    def off(value: float) -> float:
        setattr(rule, threshold.option, value)
        tally = evaluate(context.engine, task, "validation", number, micro_batch, start=start)
        return tally.figures()["mean_ponder"] / target - 1

    found = {trained: tally.figures()["mean_ponder"] / target - 1}
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        if min(map(abs, found.values())) <= WITHIN / 2:
            break
        middle = (low + high) / 2
        value = threshold.at(middle)
        found[value] = off(value)
        if found[value] > 0:
            low = middle
        else:
            high = middle
    best = min(found, key=lambda value: abs(found[value]))
    if abs(found[best]) >= near:
        setattr(rule, threshold.option, trained)
        return None
    setattr(rule, threshold.option, best)
    return {} if best == trained else {threshold.option: best}
