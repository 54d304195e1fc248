"""`python -m benchmarks.budget`: does a target for the mean ponder hold, and what does it cost?

On three tasks, small enough for a minute each: a sweep of constant penalties, whose points make the
front of accuracy against ponder; targets at 25, 50 and 75 % of the way from collapse (one step) to
what penalty zero gives with the same seed; and runs whose penalty rises, each of which traces a
front alone. Each row is a whole training in a process of its own on one thread, not run again once
it is kept.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.budget.picture import draw
from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import Kept, Row, Training, run_all
from benchmarks.rules.benchmark import ranged
from training.console.table import aligned, markdown
from training.runs.metrics import read_metrics

MEAN = 0.05
EACH = 0.10
BELOW = 0.005
TASKS = {
    "pointer_chase": ("--data.length", "8"),
    "parity": ("--data.length", "8"),
    "addition": ("--data.digits", "4"),
}
LENGTH = ("--updates", "800", "--batch-size", "32", "--eval-every", "50")
PENALTIES = ("0.003", "0.01", "0.03", "0.1", "0.3")
WARMUP = ("--penalty.warmup", "250")
RAMP = ("--penalty.ramp", "0.001", "0.3", *WARMUP)
SHARES = (0.25, 0.5, 0.75)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the tables; 1 when a target is missed, 2 when a row could not
    be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="only these")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each")
    parser.add_argument("--workers", type=int, default=1, help="trainings at once")
    parser.add_argument(
        "--kept", action="store_true", help="run nothing: tell what the kept rows say"
    )
    parser.add_argument(
        "--quick", action="store_true", help="60 updates and one seed: does it run at all?"
    )
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    parser.add_argument("--png", type=Path, default=None, help="draw the figure")
    options = parser.parse_args(argv)
    seeds = range(1 if options.quick else options.seeds)
    rows: list[Row] = []
    for row in _rows(
        options.tasks, seeds, options.workers, Kept("budget", options.quick), options.kept
    ):
        rows.append(row)
        if not options.kept:
            print(_line(row), flush=True)
    for head, lines in (targets_table(rows), fronts_table(rows)):
        print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines))
    if any("failed" in row for row in rows):
        return 2
    figures = against_targets(rows)
    print()
    for figure in figures:
        value = "–" if figure.value is None else f"{figure.value:.4f}"
        print(f"{'met   ' if figure.met else 'MISSED'}  {figure.figure}: {value} ({figure.target})")
    if options.png is not None:
        draw(
            rows,
            {task: front(rows, task) for task in dict.fromkeys(row["task"] for row in rows)},
            options.png,
        )
    if options.json is not None:
        write(figures, options.json)
    return 0 if options.quick else exit_code(figures)


def _rows(
    tasks: Sequence[str], seeds: Sequence[int], workers: int, kept: Kept, only_kept: bool
) -> Iterator[Row]:
    """Penalty zero first, which says what the targets of a seed are; then these; then the sweep and
    the ramps: those of the first seed before the others begin, so that a benchmark that is stopped
    has something whole to tell."""
    quick = kept.path.name.endswith("-quick.jsonl")

    def run(trainings: list[Training]) -> Iterator[Row]:
        if only_kept:
            yield from (row for training in trainings if (row := kept.row(training)) is not None)
        else:
            yield from run_all(trainings, kept, workers, measure)

    others = [
        ("ramp", RAMP),
        *((f"penalty {value}", ("--penalty.value", value, *WARMUP)) for value in PENALTIES),
    ]

    def swept(seed: int) -> Iterator[Row]:
        return run(
            [_training(task, name, flags, seed, quick) for task in tasks for name, flags in others]
        )

    for seed in seeds:
        free = {}
        for row in run(
            [_training(task, "penalty 0", ("--penalty.value", "0"), seed, quick) for task in tasks]
        ):
            if "failed" not in row:
                free[row["task"]] = row["ponder"]
            yield row
        yield from run(
            [
                _training(
                    task, f"target {share:.0%}", _target(1 + share * (free[task] - 1)), seed, quick
                )
                for task in tasks
                if task in free
                for share in SHARES
            ]
        )
        if seed == seeds[0]:
            yield from swept(seed)
    for seed in seeds[1:]:
        yield from swept(seed)


def _target(steps: float) -> tuple[str, ...]:
    return (
        "--penalty.value",
        "0.01",
        "--penalty.warmup",
        "0",
        "--penalty.target-steps",
        f"{steps:.2f}",
    )


def _training(task: str, name: str, flags: tuple[str, ...], seed: int, quick: bool) -> Training:
    return Training(f"{task}, {name}", seed, ((task, *TASKS[task], *LENGTH, *flags),), quick)


def measure(homes: list[Path]) -> Row:
    """What the run folder says of the last quarter, and of the test split."""
    summary = json.loads((homes[-1] / "summary.json").read_text(encoding="utf-8"))
    lines = read_metrics(homes[-1], "train")
    evaluations = read_metrics(homes[-1], "evaluation")
    begin = 0.75 * lines[-1]["update"]
    weights = {line["update"]: line["penalty"] for line in lines}
    budget = summary.get("budget", {})
    return {
        "task": summary["recipe"],
        "accuracy": summary["accuracy"],
        "ponder": summary["mean_ponder"],
        "executed": summary["mean_steps"],
        "held": statistics.fmean(line["mean_ponder"] for line in lines if line["update"] > begin),
        "late_evaluations": [each["mean_ponder"] for each in evaluations if each["update"] > begin],
        "target": budget.get("target_steps"),
        "says": budget.get("says"),
        "penalty_at_end": lines[-1]["penalty"],
        "path": [
            [each["update"], weights[each["update"]], each["mean_ponder"], each["accuracy"]]
            for each in evaluations
            if each["update"] in weights
        ],
        "seconds": summary["train_seconds"],
    }


def front(rows: Sequence[Row], task: str) -> tuple[list[float], list[float]]:
    """Ponder and accuracy of the sweep's points that no other beats in both: means over seeds, the
    cheapest first."""
    points: dict[str, list[Row]] = {}
    for row in rows:
        if row["name"].startswith(f"{task}, penalty ") and "failed" not in row:
            points.setdefault(row["name"], []).append(row)
    means = sorted(
        (
            statistics.fmean(row["ponder"] for row in own),
            statistics.fmean(row["accuracy"] for row in own),
        )
        for own in points.values()
    )
    kept: list[tuple[float, float]] = []
    for ponder, accuracy in means:
        if not kept or accuracy > kept[-1][1]:
            kept.append((ponder, accuracy))
    return [ponder for ponder, _ in kept], [accuracy for _, accuracy in kept]


def below_front(rows: Sequence[Row], task: str, ponder: float, accuracy: float) -> float | None:
    """How far an accuracy lies below the sweep's front at equal compute, 0 to 1; negative above it.
    Left of the front's cheapest point it is compared with that point; None without a front."""
    ponders, accuracies = front(rows, task)
    return float(np.interp(ponder, ponders, accuracies)) - accuracy if ponders else None


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The worst of all runs with a target against what was asked for; and how far the ramps' fronts
    lie away."""
    figures = []
    held = [row for row in rows if row.get("target") is not None]
    for task in dict.fromkeys(row["task"] for row in rows if "failed" not in row):
        own = [row for row in held if row["task"] == task]
        if own:
            mean = max(abs(row["held"] / row["target"] - 1) for row in own)
            each = max(
                abs(ponder / row["target"] - 1) for row in own for ponder in row["late_evaluations"]
            )
            gaps = [below_front(rows, task, row["ponder"], row["accuracy"]) for row in own]
            below = max((gap for gap in gaps if gap is not None), default=None)
            met = below is not None and below <= BELOW
            figures += [
                Figure(
                    f"{task}: mean over the last quarter, off by", mean, f"≤ {MEAN:g}", mean <= MEAN
                ),
                Figure(f"{task}: each evaluation there, off by", each, f"≤ {EACH:g}", each <= EACH),
                Figure(f"{task}: accuracy below the front", below, f"≤ {BELOW:g}", met),
            ]
        if distances := ramp_distances(rows, task):
            figures.append(
                Figure(
                    f"{task}: the ramp's front below that of separate runs",
                    max(distances),
                    "told",
                    True,
                )
            )
    return figures


def ramp_distances(rows: Sequence[Row], task: str) -> list[float]:
    """How far each ramp's front lies below the sweep's: the mean over the ramp's evaluations after
    its warm-up."""
    distances = []
    for row in (row for row in rows if row["name"] == f"{task}, ramp" and "failed" not in row):
        after = [point for point in row["path"] if point[0] > int(WARMUP[1])]
        gaps = [below_front(rows, task, ponder, accuracy) for _, _, ponder, accuracy in after]
        known = [gap for gap in gaps if gap is not None]
        if known:
            distances.append(statistics.fmean(known))
    return distances


def targets_table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A line a task and target, over its seeds as the least and the most."""
    head = (
        "task, target",
        "steps",
        "last quarter",
        "evaluations there",
        "accuracy",
        "below the front",
        "runs",
    )
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows if row.get("target") is not None):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        off = [100 * (row["held"] / row["target"] - 1) for row in own]
        each = [
            100 * (ponder / row["target"] - 1) for row in own for ponder in row["late_evaluations"]
        ]
        gaps = [below_front(rows, row["task"], row["ponder"], row["accuracy"]) for row in own]
        points = [None if gap is None else 100 * gap for gap in gaps]
        accuracy = ranged([100 * row["accuracy"] for row in own], ".2f")
        shown = (ranged(off, "+.1f"), ranged(each, "+.1f"), accuracy, ranged(points, "+.2f"))
        lines.append((name, ranged([row["target"] for row in own], ".2f"), *shown, str(len(own))))
    return head, lines


def fronts_table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A line a task and constant penalty, and one for the ramp at three places of its rise."""
    head = ("task, penalty", "ponder", "accuracy", "runs")
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows if ", penalty " in row["name"]):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        ponder = ranged([row["ponder"] for row in own], ".2f")
        lines.append(
            (name, ponder, ranged([100 * row["accuracy"] for row in own], ".2f"), str(len(own)))
        )
    for name in dict.fromkeys(row["name"] for row in rows if row["name"].endswith(", ramp")):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        for place in (400, 600, 800):
            points = [min(row["path"], key=lambda point: abs(point[0] - place)) for row in own]
            ponder = ranged([point[2] for point in points], ".2f")
            accuracy = ranged([100 * point[3] for point in points], ".2f")
            lines.append((f"{name} at {points[0][1]:.3g}", ponder, accuracy, str(len(own))))
    return head, lines


def _line(row: Row) -> str:
    if "failed" in row:
        return f"{row['name']}, seed {row['seed']}: failed: {row['failed']}"
    off = (
        ""
        if row["target"] is None
        else f", target {row['target']:g}: {row['held'] / row['target'] - 1:+.1%}"
    )
    says = f" ({row['says']})" if row["says"] else ""
    figures = f"accuracy {row['accuracy']:.4f}, ponder {row['ponder']:.2f}{off}{says}"
    return f"{row['name']}, seed {row['seed']}: {figures}, {row['seconds']:.0f} s"
