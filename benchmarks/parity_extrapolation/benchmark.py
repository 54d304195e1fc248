"""`python -m benchmarks.parity_extrapolation`: PonderNet's published experiment, and a Transformer
beside it.

The parity of a vector of 0, 1 and −1: trained with 1 to half of its elements non-zero, tested with
more, by PonderNet and by ACT. As in the paper a recurrent cell reads the whole vector at one
position; beside it, a Transformer reads an element a position. Each row is a training in a process
of its own on one thread, not run again once it is kept.
"""

from collections.abc import Sequence

from benchmarks.harness.cli import finish, make_training_parser, seeds_of
from benchmarks.harness.report import Figure, Table, extent, print_table
from benchmarks.harness.rows import Row
from benchmarks.harness.trainings import Training, TrainingRows
from benchmarks.parity_extrapolation.measure import measure

PUBLISHED = 0.98
SIZES = {
    "small": (
        *(
            "--data.length",
            "16",
            "--data.most",
            "8",
            "--data.test-fewest",
            "9",
            "--data.test-most",
            "16",
        ),
        *("--model.width", "64", "--threads", "1"),
    ),
    "full": (),
}
LENGTHS = {  # updates and batch size
    "small": {"cell": (12_000, 128), "Transformer": (2_000, 64)},
    "full": {"cell": (500_000, 128), "Transformer": (100_000, 128)},
}
RULES = {"PonderNet": (), "GravesACT": ("--halting.kind", "GravesACT")}
BLOCKS = {"cell": (), "Transformer": ("--data.layout", "tokens", "--model.block", "Block")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the table; 1 when it is not as published, 2 when a row could
    not be run."""
    parser = make_training_parser("parity_extrapolation", __doc__)
    parser.add_argument(
        "--size", choices=SIZES, default="small", help="small: 16 elements; full: the paper's 96"
    )
    options = parser.parse_args(argv)
    trainings = [
        training(options.size, rule, block, seed, options.quick)
        for seed in seeds_of(options)
        for block in BLOCKS
        for rule in RULES
    ]
    runs = TrainingRows(f"parity-{options.size}", options, measure)
    rows = runs.run_and_print(trainings)
    print_table(table(rows))
    print(runs.provenance())
    if any("failed" in row for row in rows):
        return 2
    return finish(options, against_the_paper(rows))


def training(size: str, rule: str, block: str, seed: int, quick: bool) -> Training:
    """One of them."""
    updates, batch_size = LENGTHS[size][block]
    length = (
        "--updates",
        str(updates),
        "--eval-every",
        str(updates // 12),
        "--batch-size",
        str(batch_size),
    )
    flags = (*SIZES[size], *RULES[rule], *BLOCKS[block], *length)
    return Training(f"{rule}, {block}", seed, (("parity_extrapolation", *flags),), quick)


def against_the_paper(rows: Sequence[Row]) -> list[Figure]:
    """PonderNet near-perfect on what it has not seen, ACT at chance, with the cell; the worst seed
    of each."""
    pondered = min(row["beyond"] for row in rows if row["name"] == "PonderNet, cell")
    act = max(row["beyond"] for row in rows if row["name"] == "GravesACT, cell")
    return [
        Figure(
            "PonderNet, cell: accuracy beyond training",
            pondered,
            f"≥ {PUBLISHED}",
            pondered >= PUBLISHED,
        ),
        Figure("GravesACT, cell: accuracy beyond training", act, "≤ 0.55", act <= 0.55),
    ]


def table(rows: Sequence[Row]) -> Table:
    """Head and rows: a row a rule and block, over its seeds as the least and the most."""
    head = (
        "rule, block",
        "within training",
        "beyond",
        "one more",
        "ponder: within",
        "beyond",
        "seconds",
        "seeds",
    )
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name and "failed" not in row]
        columns = [
            ([row["within"] for row in mine], ".3f"),
            ([row["beyond"] for row in mine], ".3f"),
            ([next(iter(row["beyond_by_count"].values())) for row in mine], ".3f"),
            ([row["ponder_within"] for row in mine], ".2f"),
            ([row["ponder_beyond"] for row in mine], ".2f"),
            ([row["seconds"] for row in mine], ".0f"),
        ]
        lines.append((name, *(extent(values, form) for values, form in columns), str(len(mine))))
    return head, lines
