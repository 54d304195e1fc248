"""`python -m benchmarks.parity_extrapolation`: PonderNet's published experiment, and a Transformer
beside it.

The parity of a vector of 0, 1 and −1: trained with 1 to half of its elements non-zero, tested with
more, by PonderNet and by ACT. As in the paper a recurrent cell reads the whole vector at one
position; beside it, a Transformer reads an element a position. Each row is a training in a process
of its own on one thread, not run again once it is kept.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import Kept, Row, Training, run_and_tell
from benchmarks.rules.benchmark import ranged
from training.console.table import aligned, markdown
from training.runs.metrics import read_metrics

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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity_extrapolation", description=__doc__
    )
    parser.add_argument(
        "--size", choices=SIZES, default="small", help="small: 16 elements; full: the paper's 96"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once")
    parser.add_argument(
        "--quick", action="store_true", help="60 updates and one seed: does it run at all?"
    )
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    trainings = [
        training(options.size, rule, block, seed, options.quick)
        for seed in range(1 if options.quick else options.seeds)
        for block in BLOCKS
        for rule in RULES
    ]
    rows = run_and_tell(
        trainings, Kept(f"parity-{options.size}", options.quick), options.workers, measure
    )
    head, lines = table(rows)
    print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines))
    if any("failed" in row for row in rows):
        return 2
    figures = against_the_paper(rows)
    if options.json is not None:
        write(figures, options.json)
    return 0 if options.quick else exit_code(figures)


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


def measure(homes: list[Path]) -> Row:
    """What the run folder says of both splits: like training (validation), and with more non-zero
    elements (test)."""
    summary = json.loads((homes[-1] / "summary.json").read_text(encoding="utf-8"))
    within = read_metrics(homes[-1], "evaluation")[-1]
    return {
        "within": within["accuracy"],
        "beyond": summary["accuracy"],
        "beyond_by_count": summary["accuracy_by_difficulty"],
        "steps_within": within["mean_steps"],
        "steps_beyond": summary["mean_steps"],
        "ponder_within": within["mean_ponder"],
        "ponder_beyond": summary["mean_ponder"],
        "seconds": summary["train_seconds"],
    }


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


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
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
        lines.append((name, *(ranged(values, form) for values, form in columns), str(len(mine))))
    return head, lines
