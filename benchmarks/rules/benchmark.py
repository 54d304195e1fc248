"""`python -m benchmarks.rules`: every trainable rule, on a task on which thinking longer pays.

Each row is a whole training in a process of its own on one thread. Rows that are done are kept in
the results file and not run again, so a benchmark that is stopped goes on where it was.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.cli import finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, extent, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import TrainingRows
from benchmarks.rules.cases import CASES, Case
from benchmarks.rules.measure import measure

ACCURACY = 0.98
SECONDS = 300.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when a rule misses the target, 2 when a row
    could not be run."""
    parser = make_training_parser("rules", __doc__)
    parser.add_argument("--rules", nargs="+", default=None, help="only these")
    options = parser.parse_args(argv)
    known = {case.name for case in CASES}
    if unknown := set(options.rules or ()) - known:
        parser.error(
            f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    cases = [case for case in CASES if options.rules is None or case.name in options.rules]
    trainings = [case.training(seed, options.quick) for seed in seeds_of(options) for case in cases]
    runs = TrainingRows("rules", options, measure)
    rows = runs.run_and_print(trainings)
    head, lines = table(cases, rows)
    flags = [f"`{case.options}`" if case.options else "–" for case in cases]
    told = [(line[0], flag, *line[1:]) for flag, line in zip(flags, lines, strict=True)]
    print_table(((head[0], "flags", *head[1:]), told))
    print(runs.provenance())
    if any("failed" in row for row in rows):
        return 2
    return finish(options, against_targets(cases, rows))


def correlation(case: Case, row: Row) -> float | None:
    """How far its steps follow the difficulty, over what the case says."""
    return (
        row[{"ponder": "ponder_of_tokens"}.get(case.over, case.over)]
        if case.over != "nothing"
        else None
    )


def against_targets(cases: Sequence[Case], rows: Sequence[Row]) -> list[Figure]:
    """The worst of each rule's seeds."""
    figures = []
    for case in cases:
        mine = [row for row in rows if row["name"] == case.name]
        accuracy = min(row["accuracy"] for row in mine)
        seconds = max(row["seconds"] for row in mine)
        figures.append(
            Figure(f"{case.name}: accuracy", accuracy, f"≥ {ACCURACY}", accuracy >= ACCURACY)
        )
        figures.append(
            Figure(
                f"{case.name}: seconds of training", seconds, f"≤ {SECONDS:g}", seconds <= SECONDS
            )
        )
        if case.over != "nothing":
            worst = min((correlation(case, row) or 0.0 for row in mine), default=0.0)
            figures.append(
                Figure(f"{case.name}: rank correlation over {case.over}", worst, "> 0", worst > 0)
            )
    return figures


def table(cases: Sequence[Case], rows: Sequence[Row]) -> Table:
    """Head and rows: a row a rule, over its seeds as the least and the most."""
    head = (
        "rule",
        "accuracy",
        "ponder",
        "executed: training",
        "evaluation",
        "Spearman",
        "over",
        "seconds",
        "seeds",
    )
    lines = []
    for case in cases:
        mine = [row for row in rows if row["name"] == case.name and "failed" not in row]
        columns: list[tuple[list[Any], str]] = [
            ([row["accuracy"] for row in mine], ".4f"),
            ([row["ponder"] for row in mine], ".2f"),
            ([row["executed_training"] for row in mine], ".2f"),
            ([row["executed_evaluation"] for row in mine], ".2f"),
            ([correlation(case, row) for row in mine], ".2f"),
        ]
        shown = [extent(values, form) for values, form in columns]
        over = "–" if case.over == "nothing" else case.over
        lines.append(
            (
                case.name,
                *shown,
                over,
                extent([row["seconds"] for row in mine], ".0f"),
                str(len(mine)),
            )
        )
    return head, lines
