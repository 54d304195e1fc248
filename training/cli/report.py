"""`ponder report`: was learned halting worth it? On one checkpoint, at equal executed compute,
against what needs no training: exits put on afterwards, one depth for all, and a model trained at a
fixed depth if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from halting.errors import UsageError
from halting.maps.estimate import Estimate, ratio
from training.cli.evaluate import check_counts
from training.console.output_files import check_absent, write_text
from training.console.screen import thousands
from training.console.table import aligned, markdown
from training.exits.answers import Examples
from training.exits.exit import parse_exit
from training.exits.path import open_exit
from training.reports import curves as exit_curves
from training.reports.curves import Curve, Point
from training.reports.equal_compute import (
    EqualComputeComparison,
    as_right_for_less,
    compare,
    sentence,
    verdict,
)
from training.reports.picture import Line, save_report_picture
from training.resources.workload import TimedCase, Workload, race, unchanged
from training.runs.loaded import Run, load_run, newest_run
from training.runs.metrics import to_json

_LOOKED_AT = 128
_FEWEST = 16
_EXITS = ("convergence", "convergence:kl", "confidence")


@dataclass(frozen=True)
class Options:
    """Was learned halting worth it? The learned rule against what needs no training, at equal
    executed compute."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    fixed: tuple[str, ...] = ()
    """runs of the same task that were trained from scratch at a fixed depth (--halting.kind
    FixedSteps)"""
    exit: tuple[str, ...] = _EXITS
    """exits to put on the trained model, without their thresholds, of which several are tried"""
    split: Literal["validation", "test"] = "test"
    """which examples"""
    examples: int | None = None
    """how many; as many as the run's own test if left out"""
    batch_size: int = 256
    """examples computed at once"""
    points: int = 12
    """settings of each exit, spread out, at most; a few more lie close to what the learned rule
    takes"""
    repeats: int = 3
    """how often each setting is timed; medians are shown"""
    name: str = "halting_report"
    """of the files in the run folder"""


def main(argv: Sequence[str]) -> int:
    """Reports; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder report", description=Options.__doc__)
    check_counts(
        examples=options.examples,
        batch_size=options.batch_size,
        points=options.points,
        repeats=options.repeats,
    )
    for spec in options.exit:
        parse_exit(spec)
    if Path(options.name).name != options.name or not options.name:
        raise UsageError(
            f"--name {options.name!r} is no name of a file.",
            "The files stand in the run folder.",
            "Write a word.",
        )
    run = load_run(Path(options.run) if options.run is not None else newest_run())
    files = [run.folder / f"{options.name}.{ending}" for ending in ("md", "json", "png")]
    check_absent(*files)
    scratch = [load_run(Path(folder)) for folder in options.fixed]
    exits, left_out = takeable(run, options.exit)
    number = options.examples or run.config.test_examples
    if number < _FEWEST:
        raise UsageError(
            f"--examples {number} are too few.",
            "Intervals are made by drawing sequences again and again, and so few say nothing.",
            f"Write --examples {_FEWEST} or more; a thousand tell differences of a percentage "
            "point.",
        )
    examples = Examples.of(run.task, options.split, 0, number, options.batch_size)
    for other in scratch:
        _check_same_task(run, other, examples, options)
    found = examine(run, scratch, exits, examples, options)
    figures = as_figures(run, found, examples, options)
    text = found.sentence + "\n\n" + aligned(*_comparisons(found, figures))
    print(f"{run.folder}, {options.split} split, {number} examples\n\n{text}\n\n{_NOTES}")
    for note in left_out:
        print(note)
    write_text(files[0], page(run, found, figures, options, left_out))
    write_text(files[1], to_json(figures, indent=2) + "\n")
    _draw(files[2], run, found, figures, options)
    print("\nwrote " + ", ".join(str(path) for path in files))
    return 0


_NOTES = (
    "at equal compute: as many executed FLOPs a token as the learned rule takes (or the least that "
    "the exit can be\n"
    "had for), between neighbouring settings as a coin would give it; intervals of 95 % over "
    "sequences, those of the\n"
    "gain together."
)


@dataclass(frozen=True)
class Found:
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
    run: Run, scratch: Sequence[Run], exits: Sequence[str], examples: Examples, options: Options
) -> Found:
    """Runs every exit at every setting, compares and times them."""
    looked_at = Examples.of(run.task, "train", 0, _LOOKED_AT, options.batch_size)
    learned, trained, steps = exit_curves.learned_curve(run, examples, looked_at, options.points)
    curves = [learned]
    curves += [
        exit_curves.exit_curve(run, spec, examples, looked_at, options.points, trained.steps)
        for spec in exits
    ]
    curves.append(exit_curves.fixed_curve(run, examples, options.points))
    curves += [exit_curves.scratch_curve(scratch, examples)] if scratch else []
    curves += [
        exit_curves.random_curve(run, examples, steps),
        exit_curves.oracle_curve(run, examples),
    ]
    asked, tokens = (
        values.sum(1).astype(np.float64) for values in (examples.has_target, examples.valid)
    )
    run_points = [point for curve in curves for point in curve.points if point.way.runs]
    micros = timed(run_points, examples, options.repeats)
    comparisons = compare(learned, trained, curves[1:], asked, tokens)
    others = [curve for curve in curves[1:] if all(point.way.runs for point in curve.points)]
    in_time = compare(learned, trained, others, asked, tokens, lambda point: micros[id(point)])
    at_flops = verdict(comparisons)
    at_time = verdict(in_time)
    said = sentence(at_flops, at_time) + as_right_for_less(trained, curves[1:])
    return Found(curves, trained, comparisons, in_time, at_flops[0], at_time[0], said, micros)


def timed(points: Sequence[Point], examples: Examples, repeats: int) -> dict[int, float]:
    """Microseconds a token of the first batch under each point, by the point's identity: medians,
    taken in turns, so that what else the machine does meets all alike."""
    batch = examples.batches[0]
    works: dict[int, Workload] = {}
    for point in points:
        works.setdefault(id(point.way.run), Workload(point.way.run, batch))

    def once(point: Point) -> float:
        run = point.way.run
        with unchanged(run.model):
            return works[id(run)].seconds(TimedCase(False, point.way.exit(0, len(batch.valid))))

    with torch.random.fork_rng(devices=[]):
        seconds = race([partial(once, point) for point in points], repeats)
    return {
        id(point): 1e6 * taken / int(batch.valid.sum())
        for point, taken in zip(points, seconds, strict=True)
    }


def takeable(run: Run, specs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The exits that the model can take, and in words why it cannot take the others.

    Raises:
        UsageError: for one that has no threshold.
    """
    taken = []
    left_out = []
    for spec in dict.fromkeys(specs):
        given = open_exit(run, spec)
        try:
            assert given.threshold is not None, "a fixed depth is always there"
            with given.at(given.threshold.at(0.0)).applied_to(run):
                taken.append(spec)
        except UsageError as error:
            left_out.append(f"left out: {spec}. {error.why}")
    return taken, left_out


def as_figures(run: Run, found: Found, examples: Examples, options: Options) -> dict[str, Any]:
    """Everything as JSON values. Accuracies of 1; FLOPs and microseconds a token."""
    asked, tokens = (
        values.sum(1).astype(np.float64) for values in (examples.has_target, examples.valid)
    )

    def row(point: Point) -> dict[str, Any]:
        accuracy = ratio(point.right, asked)
        return {
            "setting": point.name,
            "accuracy": vars(accuracy),
            "flops_per_token": float(point.flops.sum() / tokens.sum()),
            "steps": point.steps,
            "micros_per_token": found.micros.get(id(point)),
        }

    return {
        "run": str(run.folder),
        "weights": str(run.weights),
        "split": options.split,
        "examples": len(asked),
        "answers": int(asked.sum()),
        "max_steps": run.model.recurrence.max_steps,
        "device": run.device.type,
        "threads": torch.get_num_threads(),
        "verdict": found.verdict,
        "verdict_in_time": found.verdict_in_time,
        "sentence": found.sentence,
        "trained": row(found.trained),
        "at_equal_compute": [_compared(each, "flops_per_token") for each in found.comparisons],
        "at_equal_time": [_compared(each, "micros_per_token") for each in found.in_time],
        "curves": {curve.name: [row(point) for point in curve.points] for curve in found.curves},
    }


def _compared(each: EqualComputeComparison, unit: str) -> dict[str, Any]:
    figures = {name: vars(getattr(each, name)) for name in ("accuracy", "learned", "gain")}
    return {"exit": each.name, "usable": each.usable, unit: each.compute, **figures}


def page(
    run: Run, found: Found, figures: dict[str, Any], options: Options, left_out: Sequence[str]
) -> str:
    """The report in Markdown."""
    parts = [
        f"# Was learned halting worth it? {run.folder.name}",
        f"**{found.sentence}**",
        f"`{run.config.data.kind.rpartition(':')[2]}`, {figures['examples']} examples of the "
        f"{options.split} split, {figures['answers']} answers; "
        f"`{run.config.halting.kind.rpartition(':')[2]}`, at most {figures['max_steps']} steps; "
        f"{figures['device']}, {figures['threads']} thread(s).",
        markdown(*_comparisons(found, figures)),
        _NOTES.replace("\n", " ")
        + " The learned rule's own steps dealt to other tokens at random are the control; "
        "the oracle leaves at the first step after which the answer is right and stays right, as "
        "full depth shows it, and is never more right than that: no rule can know that, and "
        "nothing is run by it.",
        f"![Accuracy against compute and time]({options.name}.png)",
        "## Every setting",
    ]
    head = ("setting", "accuracy", "steps", "FLOPs a token", "µs a token")
    for name, rows in figures["curves"].items():
        lines = [
            (each["setting"], format(Estimate(**each["accuracy"]), ".4f"), *_costs(each))
            for each in rows
        ]
        parts += [f"### {name}", markdown(head, lines)]
    parts += ["\n".join(left_out)] if left_out else []
    return "\n\n".join(parts) + "\n"


def _comparisons(
    found: Found, figures: dict[str, Any]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table at equal compute, and at equal time."""
    own = figures["trained"]
    accuracy = format(Estimate(**own["accuracy"]), ".4f")
    flops = thousands(own["flops_per_token"])
    micros = f"{own['micros_per_token']:.1f}"
    rows: list[tuple[str, ...]] = [
        ("learned, as trained", accuracy, flops, "", accuracy, micros, "")
    ]
    in_time = {each.name: each for each in found.in_time}
    for each in found.comparisons:
        name = each.name if each.usable else f"({each.name})"
        at_flops = (format(each.accuracy, ".4f"), thousands(each.compute), _gain(each))
        at_time = ("–", "–", "–")
        if (timed := in_time.get(each.name)) is not None:
            at_time = (format(timed.accuracy, ".4f"), f"{timed.compute:.1f}", _gain(timed))
        rows.append((name, *at_flops, *at_time))
    head = ("right answers", "at equal compute", "FLOPs a token", "gain of learned, points")
    return (*head, "in equal time", "µs a token", "gain, points"), rows


def _gain(comparison: EqualComputeComparison) -> str:
    gain = comparison.gain
    return format(Estimate(100 * gain.value, 100 * gain.low, 100 * gain.high), "+.2f")


def _costs(row: dict[str, Any]) -> tuple[str, str, str]:
    micros = row["micros_per_token"]
    return (
        f"{row['steps']:.2f}",
        thousands(row["flops_per_token"]),
        "–" if micros is None else f"{micros:.1f}",
    )


def _draw(path: Path, run: Run, found: Found, figures: dict[str, Any], options: Options) -> None:
    def line(name: str, rows: list[dict[str, Any]], usable: bool) -> Line:
        accuracy, low, high = (
            [row["accuracy"][key] for row in rows] for key in ("value", "low", "high")
        )
        compute = [row["flops_per_token"] for row in rows]
        micros = [row["micros_per_token"] for row in rows if row["micros_per_token"] is not None]
        return Line(name, compute, micros, accuracy, low, high, usable)

    lines = [
        line(curve.name, figures["curves"][curve.name], curve.usable) for curve in found.curves
    ]
    about = [
        run.folder.name,
        run.config.halting.kind.rpartition(":")[2],
        f"{figures['examples']} sequences of the {options.split} split",
        "intervals of 95 % over sequences",
    ]
    trained = line(found.curves[0].name, [figures["trained"]], True)
    save_report_picture(path, lines, trained, found.sentence, about, 1 / max(1, figures["answers"]))


def _check_same_task(run: Run, other: Run, examples: Examples, options: Options) -> None:
    same = other.task.vocab_size == run.task.vocab_size and (
        Examples.of(other.task, options.split, 0, 2, 2).fingerprint()
        == Examples.of(run.task, options.split, 0, 2, 2).fingerprint()
    )
    if not same:
        raise UsageError(
            f"--fixed {other.folder} was trained on other examples than {run.folder}.",
            "Two models are compared on the same sequences, so task, its options and the seed have "
            "to agree.",
            f"Train one on them: ponder train {run.config.recipe} --halting.kind FixedSteps "
            f"--loop.max-steps N --seed {run.config.seed}",
        )
