"""What a run with a target for its mean ponder keeps in the end: a model that holds it."""

from dataclasses import dataclass
from typing import Any

from halting.exit_threshold import ExitThreshold
from halting.rule import HaltingRule
from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.evaluation.evaluate import evaluate
from training.runs.context import TrainingContext

_WITHIN = 0.01
_HALVINGS = 12
_TIMES = 4  # the examples of an evaluation


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
    within it, else the last weights with their exit moved. None for a run without a target, or
    where nothing moves the exit. Called by all ranks, which come to one verdict.

    The exit's threshold is an option of most rules (`exit_threshold`); ponder falls with it, so it
    is found by halving, on examples that neither training nor an evaluation has seen.
    """
    held: dict[str, Any] | None = context.progress.budget_checkpoint
    if held is None:
        return None
    update = held["update"]
    if update is not None:
        if update != context.progress.update:
            checkpoints = context.folder / "checkpoints"
            checkpoint.load(checkpoint.folder_of(checkpoints, update), context.engine)
        return KeptModel(update, {})
    rule: HaltingRule = context.engine.model.recurrence.rule
    while (inner := getattr(rule, "rule", None)) is not None:
        rule = inner
    if rule.exit_threshold is None:
        return None
    value = _moved(context, rule, rule.exit_threshold, held["target"], held["seen"])
    options = {} if value is None else {rule.exit_threshold.option: value}
    return KeptModel(context.progress.update, options)


def _moved(
    context: TrainingContext,
    rule: HaltingRule,
    threshold: ExitThreshold,
    target: float,
    start: int,
) -> float | None:
    """Moves the rule's exit to where the mean ponder is nearest to the target; its value there,
    None where it is that of the training."""
    trained = getattr(rule, threshold.option)
    config = context.config
    micro_batch = max(1, config.batch_size // (collectives.world_size() * config.accumulation))

    def off(value: float) -> float:
        setattr(rule, threshold.option, value)
        number = _TIMES * config.evaluation.eval_examples
        tally = evaluate(
            context.engine, context.built.task, "validation", number, micro_batch, start=start
        )
        return tally.figures()["mean_ponder"] / target - 1

    found = {trained: off(trained)}
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        if min(map(abs, found.values())) <= _WITHIN / 2:
            break
        middle = (low + high) / 2
        value = threshold.at(middle)
        found[value] = off(value)
        if found[value] > 0:
            low = middle
        else:
            high = middle
    best = min(found, key=lambda value: abs(found[value]))
    setattr(rule, threshold.option, best)
    return None if best == trained else best
