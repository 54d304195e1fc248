"""`python -m benchmarks.collapse`: is a collapse seen early, a run taken back from it, a healthy
one left alone?

A halting bias of +2 and a penalty of 0.3 collapse `pointer_chase`. Each row is a whole training in
a process of its own on one thread; rows that are done are kept and not run again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import Kept, Row, Training, run_and_tell
from training.console.table import aligned, markdown
from training.runs.metrics import read_metrics

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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collapse", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each case")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, a small model, half a minute"
    )
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    seeds, more = (1, _SMALL) if options.quick else (options.seeds, ())
    trainings = [
        Training(name, seed, ((*flags, *more),))
        for seed in range(seeds)
        for name, flags in CASES.items()
    ]
    rows = run_and_tell(trainings, Kept("collapse", options.quick), options.workers, measure)
    if any("failed" in row for row in rows):
        return 2
    head, lines = table(rows)
    print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines))
    figures = against_targets(rows)
    for figure in figures:
        print(
            f"{'met   ' if figure.met else 'MISSED'}  {figure.figure}: {figure.value:.4g}, target "
            f"{figure.target}"
        )
    if options.json is not None:
        write(figures, options.json)
    return exit_code(figures)


def measure(homes: list[Path]) -> Row:
    """What a run folder says; lines of stretches that the run was taken back from are in files of
    their own."""
    (home,) = homes
    summary = json.loads((home / "summary.json").read_text(encoding="utf-8"))
    said = [*_lines(home / "metrics.collapsed-1.jsonl"), *read_metrics(home)]
    alarms = [line for line in said if line["kind"] == "warning"]
    collapses = [line["update"] for line in alarms if "halting collapsed" in line["says"]]
    shallow = [
        line["update"] for line in said if line["kind"] == "train" and line["mean_steps"] <= 1.02
    ]
    return {
        "accuracy": summary["accuracy"],
        "steps": summary["mean_steps"],
        "spearman": summary.get("spearman_steps_difficulty"),
        "alarms": len(alarms),
        "shallow_from": shallow[0] if shallow else None,
        "seen_at": collapses[0] if collapses else None,
        "updates": summary["updates"],
        "recoveries": sum("recovering" in line["says"] for line in read_metrics(home, "warning")),
        "says": [line["says"] for line in alarms][:4],
        "seconds": summary["train_seconds"],
    }


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
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


def _lines(path: Path) -> list[Row]:
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if path.exists()
        else []
    )
