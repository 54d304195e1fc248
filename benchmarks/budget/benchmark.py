"""`python -m benchmarks.budget`: does a target for the mean ponder hold, and what does it cost?

On three tasks, small enough for a minute each: a sweep of constant penalties, whose points make the
front of accuracy against ponder; targets at 25, 50 and 75 % of the way from collapse (one step) to
what penalty zero gives with the same seed; and runs whose penalty rises, each of which traces a
front alone. Each row is a whole training in a process of its own on one thread, not run again once
it is kept.
"""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.budget.measure import measure
from benchmarks.budget.picture import draw
from benchmarks.harness.cli import finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, extent, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows

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
    parser = make_training_parser("budget", __doc__, workers=1)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="only these")
    parser.add_argument("--png", type=Path, default=None, help="draw the figure")
    options = parser.parse_args(argv)
    runs = TrainingRows("budget", options, measure)
    rows: list[Row] = []
    for row in _rows(options.tasks, seeds_of(options), runs, options.quick):
        rows.append(row)
        if not options.kept:
            print(_line(row), flush=True)
    print_table(targets_table(rows))
    print_table(fronts_table(rows))
    print(runs.provenance())
    if any("failed" in row for row in rows):
        return 2
    if options.png is not None:
        draw(
            rows,
            {task: front(rows, task) for task in dict.fromkeys(row["task"] for row in rows)},
            options.png,
        )
    return finish(options, against_targets(rows))


def _rows(
    tasks: Sequence[str], seeds: Sequence[int], runs: TrainingRows, quick: bool
) -> Iterator[Row]:
    """Penalty zero first, which says what the targets of a seed are; then these; then the sweep and
    the ramps: those of the first seed before the others begin, so that a benchmark that is stopped
    has something whole to tell."""
    others = [
        ("ramp", RAMP),
        *((f"penalty {value}", ("--penalty.value", value, *WARMUP)) for value in PENALTIES),
    ]

    def swept(seed: int) -> Iterator[Row]:
        return runs.run(
            [_training(task, name, flags, seed, quick) for task in tasks for name, flags in others]
        )

    for seed in seeds:
        free = {}
        for row in runs.run(
            [_training(task, "penalty 0", ("--penalty.value", "0"), seed, quick) for task in tasks]
        ):
            if "failed" not in row:
                free[row["task"]] = row["ponder"]
            yield row
        yield from runs.run(
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


def targets_table(rows: Sequence[Row]) -> Table:
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
        accuracy = extent([100 * row["accuracy"] for row in own], ".2f")
        shown = (
            extent(off, "+.1f"),
            extent(each, "+.1f"),
            accuracy,
            extent(points, "+.2f"),
        )
        lines.append((name, extent([row["target"] for row in own], ".2f"), *shown, str(len(own))))
    return head, lines


def fronts_table(rows: Sequence[Row]) -> Table:
    """A line a task and constant penalty, and one for the ramp at three places of its rise."""
    head = ("task, penalty", "ponder", "accuracy", "runs")
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows if ", penalty " in row["name"]):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        ponder = extent([row["ponder"] for row in own], ".2f")
        lines.append(
            (
                name,
                ponder,
                extent([100 * row["accuracy"] for row in own], ".2f"),
                str(len(own)),
            )
        )
    for name in dict.fromkeys(row["name"] for row in rows if row["name"].endswith(", ramp")):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        for place in (400, 600, 800):
            points = [min(row["path"], key=lambda point: abs(point[0] - place)) for row in own]
            ponder = extent([point[2] for point in points], ".2f")
            accuracy = extent([100 * point[3] for point in points], ".2f")
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
