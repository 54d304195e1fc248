"""`python -m benchmarks.collapse`: is a collapse seen early, a run taken back from it, a healthy
one left alone?

A halting bias of +2 and a penalty of 0.3 collapse `pointer_chase`. Each row is a whole training in
a process of its own on one thread; rows that are done are kept and not run again.
"""

from collections.abc import Sequence

from benchmarks.collapse.measure import measure
from benchmarks.harness.cli import finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows

ACCURACY = 0.98
STEPS = 1.5
EARLY = 0.5
_BAD = ("pointer_chase", "--halting.bias-init", "2", "--penalty.value", "0.3")
CASES = {
    "as it is": ("pointer_chase",),
    "collapsing": _BAD,
    "collapsing, recover": (*_BAD, "--on-collapse", "recover"),
}
_SMALL = (
    *(
        "--data.length",
        "8",
        "--model.width",
        "32",
        "--batch-size",
        "32",
        "--updates",
        "400",
        "--penalty.warmup",
        "130",
    ),
    *(
        "--schedule.warmup",
        "30",
        "--eval-every",
        "100",
        "--eval-examples",
        "64",
        "--test-examples",
        "256",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when a target is missed, 2 when a row could not
    be run."""
    parser = make_training_parser(
        "collapse", __doc__, quick="one seed, a small model, half a minute"
    )
    options = parser.parse_args(argv)
    more = _SMALL if options.quick else ()
    trainings = [
        Training(name, seed, ((*flags, *more),))
        for seed in seeds_of(options)
        for name, flags in CASES.items()
    ]
    runs = TrainingRows("collapse", options, measure)
    rows = runs.run_and_print(trainings)
    if any("failed" in row for row in rows):
        return 2
    print_table(table(rows))
    print(runs.provenance())
    return finish(options, against_targets(rows), judges_quick=True)


def table(rows: Sequence[Row]) -> Table:
    """Head and rows: a row a training."""
    head = (
        "case",
        "seed",
        "accuracy",
        "steps",
        "Spearman",
        "first at one step",
        "seen at",
        "recoveries",
        "alarms",
        "seconds",
    )
    lines = []
    for row in rows:
        rho = row["spearman"]
        lines.append(
            (
                row["name"],
                str(row["seed"]),
                f"{row['accuracy']:.4f}",
                f"{row['steps']:.2f}",
                "–" if rho is None else f"{rho:.2f}",
                *(
                    "–" if row[name] is None else str(row[name])
                    for name in ("shallow_from", "seen_at")
                ),
                str(row["recoveries"]),
                str(row["alarms"]),
                f"{row['seconds']:.0f}",
            )
        )
    return head, lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The worst of the seeds."""
    healthy, lost, saved = ([row for row in rows if row["name"] == name] for name in CASES)
    alarms = max(row["alarms"] for row in healthy)
    collapsed = max(row["steps"] for row in lost)
    seen = max((row["seen_at"] or row["updates"]) / row["updates"] for row in lost)
    accuracy = min(row["accuracy"] for row in saved)
    steps = min(row["steps"] for row in saved)
    return [
        Figure("alarms of a healthy run", alarms, "0", alarms == 0),
        Figure("steps of a run that collapses", collapsed, "≤ 1.02", collapsed <= 1.02),
        Figure("share of it that is over when that is seen", seen, f"≤ {EARLY}", seen <= EARLY),
        Figure(
            "accuracy of a run that is taken back", accuracy, f"≥ {ACCURACY}", accuracy >= ACCURACY
        ),
        Figure("its steps", steps, f"≥ {STEPS}", steps >= STEPS),
    ]
