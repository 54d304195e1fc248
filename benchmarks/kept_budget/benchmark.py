"""`python -m benchmarks.kept_budget`: does the model that a run keeps hold its target?

Targets of 2, 3 and 4 steps for three rules on three tasks, each a whole training in a process of
its own on one thread, not run again once it is kept. What is compared with the target is the mean
ponder of the model in `final/`, read anew and run on fresh examples: those of the test split, which
nothing in a run has looked at.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.budget.benchmark import TASKS
from benchmarks.harness.cli import finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, extent, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows
from training import load_run
from training.evaluation.evaluate import evaluate

WITHIN = {"GravesACT": 0.02, "StickBreaking": 0.02, "PonderNet": 0.05}
PENALTIES = {"GravesACT": "0.01", "StickBreaking": "0.01", "PonderNet": "0.1"}
TARGETS = (2, 3, 4)
EXAMPLES = 8192
LENGTH = ("--updates", "800", "--batch-size", "32", "--eval-every", "50")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when a target is missed, 2 when a row could not
    be run."""
    parser = make_training_parser("kept_budget", __doc__, workers=1)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="only these")
    parser.add_argument(
        "--rules", nargs="+", choices=WITHIN, default=list(WITHIN), help="only these"
    )
    options = parser.parse_args(argv)
    runs = TrainingRows("kept_budget", options, measure)
    rows: list[Row] = []
    trainings = [
        _training(task, rule, target, seed, options.quick)
        for seed in seeds_of(options)
        for task in options.tasks
        for rule in options.rules
        for target in TARGETS
    ]
    for row in runs.run(trainings):
        rows.append(row)
        if not options.kept:
            print(_line(row), flush=True)
    print_table(targets_table(rows))
    print(runs.provenance())
    if any("failed" in row for row in rows):
        return 2
    return finish(options, against_targets(rows))


def _training(task: str, rule: str, target: int, seed: int, quick: bool) -> Training:
    flags = (
        *("--halting.kind", rule, "--penalty.value", PENALTIES[rule], "--penalty.warmup", "0"),
        *("--penalty.target-steps", str(target)),
    )
    name = f"{task}, {rule}, target {target}"
    return Training(name, seed, ((task, *TASKS[task], *LENGTH, *flags),), quick)


def measure(homes: list[Path]) -> Row:
    """What the kept model takes on examples that nothing in its run has looked at, and what the run
    says of it."""
    run = load_run(homes[-1])
    summary = json.loads((homes[-1] / "summary.json").read_text(encoding="utf-8"))
    figures = evaluate(run, run.task, "test", EXAMPLES, 256).figures()
    budget = summary["budget"]
    return {
        "task": summary["recipe"],
        "rule": run.config.halting.kind,
        "target": budget["target_steps"],
        "ponder": figures["mean_ponder"],
        "executed": figures["mean_steps"],
        "accuracy": figures["accuracy"],
        "kept": budget["kept_says"],
        "says": budget["says"],
        "seconds": summary["train_seconds"],
    }


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The worst of all runs of a task, rule and target against what was asked for."""
    figures = []
    for name in dict.fromkeys(row["name"] for row in rows if "failed" not in row):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        worst = max(abs(_off(row)) for row in own)
        within = WITHIN[own[0]["rule"]]
        figures.append(Figure(f"{name}: off by", worst, f"≤ {within:g}", worst <= within))
    return figures


def targets_table(rows: Sequence[Row]) -> Table:
    """A line a task, rule and target, over its seeds as the least and the most."""
    head = ("task, rule, target", "off, %", "accuracy, %", "runs", "exit moved", "says")
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name and "failed" not in row]
        said = sorted({row["says"] for row in own if row["says"]})
        lines.append(
            (
                name,
                extent([100 * _off(row) for row in own], "+.1f"),
                extent([100 * row["accuracy"] for row in own], ".2f"),
                str(len(own)),
                str(sum("instead" in (row["kept"] or "") for row in own)),
                "; ".join(said),
            )
        )
    return head, lines


def _off(row: Row) -> float:
    return row["ponder"] / row["target"] - 1


def _line(row: Row) -> str:
    if "failed" in row:
        return f"{row['name']}, seed {row['seed']}: failed: {row['failed']}"
    told = "; ".join(filter(None, (row["kept"], row["says"])))
    says = f" ({told})" if told else ""
    figures = f"ponder {row['ponder']:.3f}, off by {_off(row):+.1%}, accuracy {row['accuracy']:.4f}"
    return f"{row['name']}, seed {row['seed']}: {figures}{says}, {row['seconds']:.0f} s"
