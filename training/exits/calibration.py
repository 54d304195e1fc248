"""The cheapest exit whose loss of quality against full depth is bounded, found on calibration
sequences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.exits.answers import Answers, Examples, answer
from training.exits.exit import Exit
from training.exits.guarantee import Guarantee, TestedExit, fingerprint
from training.exits.learn_then_test import Tested, fixed_sequence, last_that_holds
from training.exits.path import OpenExit, chains
from training.exits.quality_loss import QualityLoss, quality_loss
from training.runs.loaded import Run
from training.tasks.task import Task

FIRST = 1_000_000
"""The number of the first calibration example of a split: no test or evaluation of a run comes so
far."""
LOOKED_AT = 128
"""Training examples on which the settings to test are laid out."""
SETTINGS = 40
"""Of an exit, at most about so many."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What is to be shown, and on which sequences.

    Args:
        risk: the expected loss of a sequence that is allowed.
        confidence: the chance, over calibration sequences, that the risk is kept.
        loss: what a sequence can lose.
        split: the kind of the calibration sequences; fresh ones of it are taken, from `FIRST` on.
        num_examples: how many.
        batch_size: sequences computed at once.
    """

    risk: float = 0.01
    confidence: float = 0.95
    loss: QualityLoss = "lost"
    split: str = "validation"
    num_examples: int = 2000
    batch_size: int = 256

    def examples(self, task: Task) -> Examples:
        """The calibration sequences of a task."""
        return Examples.of(task, self.split, FIRST, self.num_examples, self.batch_size)


def calibrate(
    run: Run, exits: Sequence[OpenExit], examples: Examples, plan: CalibrationPlan
) -> Guarantee:
    """Tests the settings of each exit on the examples, and takes the cheapest that holds, in
    executed FLOPs.

    Args:
        run: the run.
        exits: at least one; each of their chains is tested at its share of the level, so that
            taking one is covered.
        examples: the calibration sequences.
        plan: what is to be shown; the guarantee keeps its figures.
    """
    full, losses = losses_against_full_depth(run, examples, plan.loss)
    looked_at = Examples.of(run.task, "train", 0, LOOKED_AT, plan.batch_size)
    level = level_of_each(exits, plan.confidence)
    held: list[TestedExit] = []
    tested: list[TestedExit] = []
    order = 0
    for open_exit in exits:
        answers: dict[str, Answers] = {}

        def lost(setting: Exit, answers: dict[str, Answers] = answers) -> np.ndarray:
            if setting.name not in answers:
                answers[setting.name] = answer(run, setting, examples)
            return losses(answers[setting.name])

        for chain in chains(run, open_exit, looked_at, SETTINGS):
            order += 1
            results = fixed_sequence(chain, lost, plan.risk, level)
            tested += [_as_record(each, answers[each.setting.name], order) for each in results]
            last = last_that_holds(results)
            held += [] if last is None else [_as_record(last, answers[last.setting.name], order)]
    cheaper = [each for each in held if each.flops_per_token < full.flops_per_token]
    best = min(cheaper, key=lambda each: each.flops_per_token, default=None)
    num_sequences = int(examples.has_target.any(1).sum())
    return Guarantee(
        exit=f"fixed:{exits[0].limit}" if best is None else best.exit,
        found=best is not None,
        risk=plan.risk,
        confidence=plan.confidence,
        loss=plan.loss,
        full_depth=exits[0].limit,
        full_flops_per_token=full.flops_per_token,
        sequences=num_sequences,
        split=plan.split,
        first_example=FIRST,
        num_examples=plan.num_examples,
        data=run.config.data.model_dump(mode="json") | {"seed": run.config.seed},
        data_fingerprint=examples.fingerprint(),
        weights_fingerprint=fingerprint(run.weights),
        among=[each.spec for each in exits],
        tested=tested,
    )


def level_of_each(exits: Sequence[OpenExit], confidence: float) -> float:
    """The chance of an error that each chain of tests is allowed, so that all of them together keep
    the confidence."""
    return (1 - confidence) / max(1, sum(each.num_chains for each in exits))


def losses_against_full_depth(
    run: Run, examples: Examples, kind: QualityLoss
) -> tuple[Answers, Callable[[Answers], np.ndarray]]:
    """What the model answers when all tokens run to its step limit, and what sequences lose against
    that."""
    limit = run.model.recurrence.max_steps
    full = answer(run, Exit(f"fixed:{limit}", steps=limit), examples)
    targets = examples.targets
    has_target = examples.has_target
    return full, lambda early: quality_loss(kind, early, full, targets, has_target)


def _as_record(tested: Tested[Exit], answers: Answers, order: int) -> TestedExit:
    return TestedExit(
        exit=tested.setting.name,
        risk=tested.risk,
        p_value=tested.p_value,
        holds=tested.holds,
        mean_steps=answers.mean_steps,
        flops_per_token=answers.flops_per_token,
        order=order,
    )
