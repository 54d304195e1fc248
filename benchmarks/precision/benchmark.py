"""`python -m benchmarks.precision`: what computing in 16 bits does to halting, on trained models.

Each model is trained in float32, and then evaluated against float64 in every precision, on examples
that are new to it. Told are: the share of tokens that take another number of steps end to end,
because their states differ; how many would in float64 from the very same states (none, law 5); how
many would had the halting unit been computed in 16 bits; and how far gradients are off. Trainings
that are done are not run again.
"""

from collections.abc import Sequence

from benchmarks.harness.cli import finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows
from benchmarks.precision.measure import measure

UPDATES = 800
CASES = {
    "GravesACT": (),
    "PonderNet": ("--halting.kind", "PonderNet", "--penalty.value", "0.1"),
}
"""Rules, and the flags of `ponder train pointer_chase` that train them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when a target is missed, 2 when a training could
    not be run."""
    parser = make_training_parser("precision", __doc__, seeds=1, workers=1)
    options = parser.parse_args(argv)
    trainings = [
        Training(name, seed, (("pointer_chase", *flags, "--updates", str(UPDATES)),), options.quick)
        for seed in seeds_of(options)
        for name, flags in CASES.items()
    ]
    replay = "benchmarks/precision/halting_replay.py"
    runs = TrainingRows("precision", options, measure, also=[replay])
    rows = runs.run_and_print(trainings)
    if any("failed" in row for row in rows):
        return 2
    rows.sort(key=lambda row: list(CASES).index(row["name"]))
    print_table(table(rows))
    print(runs.provenance())
    return finish(options, against_targets(rows), judges_quick=True)


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """Law 5 has targets; what moves end to end is told."""
    figures = []
    for row in rows:
        for precision, found in row["precisions"].items():
            name = f"{row['name']} in {precision}"
            for figure, key in (
                (
                    "tokens that float64 would let leave elsewhere, given their states",
                    "moved_given_states",
                ),
                ("operations inside the rule narrower than float32", "narrow_operations"),
            ):
                figures.append(Figure(f"{name}: {figure}", found[key], "= 0", found[key] == 0))
            for figure, key in (
                ("share of tokens whose steps move end to end", "moved"),
                ("share that a narrow halting unit would move", "moved_by_narrow_gate"),
            ):
                figures.append(Figure(f"{name}: {figure}", found[key], "reported", True))
    return figures


def table(rows: Sequence[Row]) -> Table:
    """Head and lines: one a rule and precision."""
    head = (
        "rule",
        "precision",
        "steps move, end to end",
        "given the states",
        "by a narrow gate",
        "answers move",
        "accuracy",
        "mean steps",
        "gate's gradient off",
        "others' off",
    )
    lines = []
    for row in rows:
        for precision, found in row["precisions"].items():
            lines.append(
                (
                    row["name"],
                    precision,
                    f"{found['moved']:.3%}",
                    str(found["moved_given_states"]),
                    "–" if precision == "float32" else f"{found['moved_by_narrow_gate']:.3%}",
                    f"{found['answers']:.3%}",
                    f"{found['accuracy']:.4f}",
                    f"{found['mean_steps']:.3f}",
                    f"{found['gate_gradient_off']:.1e}",
                    f"{found['other_gradient_off']:.1e}",
                )
            )
    return head, lines
