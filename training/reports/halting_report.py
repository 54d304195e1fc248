"""Was learned halting worth it? On one checkpoint, at equal executed compute and in equal time,
against what needs no training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from halting.errors import UsageError
from halting.maps.estimate import ratio
from training.exits.answers import Examples
from training.exits.path import open_exit
from training.reports.curves import (
    Curve,
    Point,
    exit_curve,
    fixed_curve,
    learned_curve,
    oracle_curve,
    random_curve,
    scratch_curve,
)
from training.reports.equal_compute import (
    EqualComputeComparison,
    as_right_for_less,
    compare,
    sentence,
    verdict,
)
from training.resources.workload import TimedCase, Workload, race, unchanged
from training.runs.loaded import Run

_LOOKED_AT = 128


@dataclass(frozen=True)
class HaltingReport:
    """All that was measured.

    Args:
        curves: the learned rule's first.
        trained: its point as it was trained.
        comparisons: against each of the other curves, at equal FLOPs.
        in_time: likewise at equal measured time.
        verdict, verdict_in_time, sentence: what it comes to.
        micros: measured microseconds a token of each point, by its identity.
    """

    curves: list[Curve]
    trained: Point
    comparisons: list[EqualComputeComparison]
    in_time: list[EqualComputeComparison]
    verdict: str
    verdict_in_time: str
    sentence: str
    micros: dict[int, float]


def examine(
    run: Run,
    scratch: Sequence[Run],
    exits: Sequence[str],
    examples: Examples,
    num_points: int,
    repeats: int,
) -> HaltingReport:
    """Runs every exit at every setting, compares and times them.

    Args:
        run: whose learned rule is examined.
        scratch: runs of the same task that were trained at a fixed depth; may be none.
        exits: what is put on the trained model, without thresholds.
        examples: the sequences.
        num_points: settings of each exit, spread out, at most.
        repeats: how often each setting is timed.
    """
    batch_size = len(examples.batches[0].valid)
    looked_at = Examples.of(run.task, "train", 0, _LOOKED_AT, batch_size)
    learned, trained, steps = learned_curve(run, examples, looked_at, num_points)
    curves = [learned]
    curves += [
        exit_curve(run, spec, examples, looked_at, num_points, trained.steps) for spec in exits
    ]
    curves.append(fixed_curve(run, examples, num_points))
    curves += [scratch_curve(scratch, examples)] if scratch else []
    curves += [
        random_curve(run, examples, steps),
        oracle_curve(run, examples),
    ]
    targets, tokens = (
        values.sum(1).astype(np.float64) for values in (examples.has_target, examples.valid)
    )
    run_points = [point for curve in curves for point in curve.points if point.setting.runs]
    micros = time_points(run_points, examples, repeats)
    comparisons = compare(learned, trained, curves[1:], targets, tokens)
    others = [curve for curve in curves[1:] if all(point.setting.runs for point in curve.points)]
    in_time = compare(learned, trained, others, targets, tokens, lambda point: micros[id(point)])
    at_flops = verdict(comparisons)
    at_time = verdict(in_time)
    summary = sentence(at_flops, at_time) + as_right_for_less(trained, curves[1:])
    return HaltingReport(
        curves, trained, comparisons, in_time, at_flops[0], at_time[0], summary, micros
    )


def time_points(points: Sequence[Point], examples: Examples, repeats: int) -> dict[int, float]:
    """Microseconds a token of the first batch under each point, by the point's identity: medians,
    taken in turns, so that what else the machine does meets all alike."""
    batch = examples.batches[0]
    works: dict[int, Workload] = {}
    for point in points:
        works.setdefault(id(point.setting.run), Workload(point.setting.run, batch))

    def once(point: Point) -> float:
        run = point.setting.run
        with unchanged(run.model):
            return works[id(run)].seconds(TimedCase(False, point.setting.exit(0, len(batch.valid))))

    with torch.random.fork_rng(devices=[]):
        seconds = race([partial(once, point) for point in points], repeats)
    return {
        id(point): 1e6 * taken / int(batch.valid.sum())
        for point, taken in zip(points, seconds, strict=True)
    }


def usable_exits(run: Run, specs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The exits that the model can take, and in words why it cannot take the others.

    Raises:
        UsageError: for one that has no threshold.
    """
    usable = []
    left_out = []
    for spec in dict.fromkeys(specs):
        opened = open_exit(run, spec)
        try:
            assert opened.threshold is not None, "a fixed depth is always there"
            with opened.at(opened.threshold.at(0.0)).applied_to(run):
                usable.append(spec)
        except UsageError as error:
            left_out.append(f"left out: {spec}. {error.why}")
    return usable, left_out


def report_figures(
    run: Run, report: HaltingReport, examples: Examples, split: str
) -> dict[str, Any]:
    """Everything as JSON values. Accuracies of 1; FLOPs and microseconds a token."""
    targets, tokens = (
        values.sum(1).astype(np.float64) for values in (examples.has_target, examples.valid)
    )

    def row(point: Point) -> dict[str, Any]:
        accuracy = ratio(point.right, targets)
        return {
            "setting": point.name,
            "accuracy": vars(accuracy),
            "flops_per_token": float(point.flops.sum() / tokens.sum()),
            "steps": point.steps,
            "micros_per_token": report.micros.get(id(point)),
        }

    return {
        "run": run.path,
        "weights": str(run.weights),
        "split": split,
        "examples": len(targets),
        "answers": int(targets.sum()),
        "max_steps": run.model.recurrence.max_steps,
        "device": run.device.type,
        "threads": torch.get_num_threads(),
        "verdict": report.verdict,
        "verdict_in_time": report.verdict_in_time,
        "sentence": report.sentence,
        "trained": row(report.trained),
        "at_equal_compute": [_compared(each, "flops_per_token") for each in report.comparisons],
        "at_equal_time": [_compared(each, "micros_per_token") for each in report.in_time],
        "curves": {curve.name: [row(point) for point in curve.points] for curve in report.curves},
    }


def _compared(each: EqualComputeComparison, unit: str) -> dict[str, Any]:
    figures = {name: vars(getattr(each, name)) for name in ("accuracy", "learned", "gain")}
    return {"exit": each.name, "usable": each.usable, unit: each.compute, **figures}
