"""Whether a run with a target holds it in evaluation, and the last checkpoint that does."""

import math
from pathlib import Path
from typing import Any

from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.evaluation.evaluate import Runner, evaluate_surely
from training.evaluation.tally import Tally
from training.ponder_penalty.step_target import WITHIN, steps_of
from training.tasks.task import Task

_LOOKS = 50  # shares of the run, at the end of each of which there is a look
_FROM = 0.2  # of the run: before it, depth is far from where it will be
_KEPT_FROM = 0.75  # from here on a checkpoint is kept for lying within the budget
_NEAR = 0.03  # kept where none is nearer
_ERRORS = 2.0  # standard errors that a mean may be off by


class BudgetTracker:
    """Says when to look at the depth that evaluation takes, and which checkpoint lies within the
    budget: the last of those from the run's last quarter whose mean ponder is within 1 % of the
    target, else the nearest within 3 %. All ranks are told the same, so they agree without a word.

    What training takes is not what is used afterwards: a rule may compute on in training what
    leaves in evaluation, and examples that were trained on are answered sooner. Each look is at
    other examples, none of which is in an evaluation of the run.

    Args:
        config: the run; without a target it never looks.

    Attributes:
        update: that of the checkpoint that is kept for it; None while there is none.
        ponder: its mean ponder on unseen examples, in steps.
    """

    def __init__(self, config: RunConfig):
        target = config.penalty.target_steps
        self.target = (
            None
            if target is None
            else steps_of(
                target,
                config.loop.max_steps,
                config.halting.fewest_steps(config.loop.max_steps),
            )
        )
        self.examples = config.evaluation.eval_examples
        self.seen = config.evaluation.eval_examples
        self.update: int | None = None
        self.ponder: float | None = None

    def look(
        self,
        before: float,
        now: float,
        update: int,
        runner: Runner,
        task: Task,
        batch_size: int,
    ) -> float | None:
        """Where it is time after an update: the mean ponder on examples that were not looked at
        yet, in steps; None where it is not time. Called by all ranks.

        Args:
            before: the share of the run that was done before the update.
            now: after it.
            update: its number.
            runner: runs the model.
            task: makes the examples.
            batch_size: the most examples a rank computes at once.
        """
        if self.target is None or now < _FROM or int(now * _LOOKS) == int(before * _LOOKS):
            return None
        target = self.target
        judged = now >= _KEPT_FROM

        def decided(tally: Tally) -> bool:
            error = _ERRORS * tally.ponder_error() / target
            return not judged or abs(_off(tally, target)) > _NEAR + error

        tally, number = evaluate_surely(runner, task, self.examples, batch_size, self.seen, decided)
        self.seen += number
        off = _off(tally, target)
        if judged and abs(off) <= max(WITHIN, min(_NEAR, self.off)):
            self.update = update
            self.ponder = (1 + off) * target
        return (1 + off) * target

    @property
    def off(self) -> float:
        """How far from the target the checkpoint is that is kept for it, relative; infinity while
        there is none."""
        if self.target is None or self.ponder is None:
            return math.inf
        return abs(self.ponder / self.target - 1)

    def state_dict(self) -> dict[str, Any] | None:
        """What a checkpoint keeps; None where there is no target."""
        if self.target is None:
            return None
        return {
            "target": self.target,
            "seen": self.seen,
            "update": self.update,
            "ponder": self.ponder,
        }

    def load_state_dict(self, state: dict[str, Any] | None, checkpoints: Path) -> None:
        """Goes on from there; called by all ranks. What was within another target, or is no longer
        there, is not kept."""
        if not state or self.target is None:
            return
        self.seen = state["seen"]
        update = state["update"]
        there = update is not None and checkpoint.folder_of(
            checkpoints, update
        ) in checkpoint.found(checkpoints)
        if collectives.broadcast_object(there) and state["target"] == self.target:
            self.update = update
            self.ponder = state["ponder"]


def _off(tally: Tally, target: float) -> float:
    return tally.figures()["mean_ponder"] / target - 1
