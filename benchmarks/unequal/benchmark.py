"""`python -m benchmarks.unequal`: ranks that loop unequally, under every ZeRO stage, against one
process.

At every update one rank leaves the loop at step 1 and the next goes on to the limit, changing
places; now and then a rank has no token at all. Every combination of stage, accumulation, backprop
and optimizer trains on 2 ranks and on 3. Those that share a number of ranks run in one launch,
under a watchdog: one that hangs or crashes is named, and the rest goes on. Rows that are there
already, from this code, are not run again.
"""

import itertools
import signal
from collections.abc import Sequence

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import code_digest
from benchmarks.harness.report import Figure, Table, print_table
from benchmarks.harness.rows import Row
from benchmarks.unequal.case import BACKPROPS, RATES, Case
from benchmarks.unequal.watch import run_all

RANKS = (2, 3)
STAGES = (0, 1, 2, 3)
ACCUMULATIONS = (1, 4)
UPDATES = 300
QUICK_UPDATES = 3
GRADIENTS, PARAMETERS, LOSSES = 1e-6, 1e-5, 1e-5
"""The targets."""
MEASURED = (
    "act",
    "halting",
    "benchmarks/unequal/case.py",
    "training/distributed/collectives.py",
    "training/engine",
    "training/objectives",
    "training/optimizers",
)
"""What a row depends on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing; 0 when all targets are met, 1 when one is missed."""
    parser = make_parser("unequal", __doc__, quick=f"{QUICK_UPDATES} updates")
    parser.add_argument(
        "--ranks", type=int, nargs="+", choices=RANKS, default=RANKS, help="how many"
    )
    parser.add_argument(
        "--limit", type=float, default=180.0, help="seconds without an update that count as hung"
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cases = all_cases(options.ranks, QUICK_UPDATES if options.quick else UPDATES)
    kept = open_rows("unequal", options, code_digest(*MEASURED))
    there = {case: kept.find(name=case.name, updates=case.updates) for case in cases}
    rows = {case: row for case, row in there.items() if row is not None}
    for ranks in options.ranks:
        missing = [case for case in cases if case.ranks == ranks and case not in rows]
        for case, row in run_all(missing, options.limit):
            rows[case] = kept.add(row) if row["outcome"] == "ran" else row
            print(_line(row), flush=True)
    ordered = [rows[case] for case in sorted(cases, key=lambda case: (case.ranks, case.stage))]
    print_table(table(ordered))
    return finish(options, against_targets(ordered), judges_quick=True)


def all_cases(ranks: Sequence[int], updates: int) -> list[Case]:
    """Every combination, all stages of one before the next."""
    combinations = itertools.product(ranks, ACCUMULATIONS, BACKPROPS, RATES, STAGES)
    return [
        Case(count, stage, accumulation, kind, optimizer, updates)
        for count, accumulation, kind, optimizer, stage in combinations
    ]


def _line(row: Row) -> str:
    if row["outcome"] != "ran":
        return f"{row['name']}: {row['outcome']}"
    figures = ", ".join(f"{name} {row[name]:.1e}" for name in ("gradients", "losses", "parameters"))
    return (
        f"{row['name']}: {figures}, {row['unequal']} of {row['updates']} updates unequal, "
        f"{row['seconds']:.0f} s"
    )


def worst(rows: Sequence[Row], figure: str) -> float | None:
    """The largest of a figure; None without a row, or where one has none."""
    there = [row[figure] for row in rows if row["outcome"] == "ran"]
    return max(there) if there and len(there) == len(rows) else None


def table(rows: Sequence[Row]) -> Table:
    """Head and lines: for each number of ranks, stage and backprop the worst over the
    accumulations."""
    head = (
        "ranks, stage, backprop",
        "ran",
        "first gradients",
        "parameters, SGD",
        "losses, SGD",
        "losses, AdamW",
    )
    lines = []
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row['ranks']}, ZeRO-{row['stage']}, {row['backprop']}", []).append(row)
    for name, group in groups.items():
        by = {
            optimizer: [row for row in group if row["optimizer"] == optimizer]
            for optimizer in RATES
        }
        values = (
            worst(group, "gradients"),
            worst(by["SGD"], "parameters"),
            worst(by["SGD"], "losses"),
            worst(by["AdamW"], "losses"),
        )
        ran = f"{sum(row['outcome'] == 'ran' for row in group)} of {len(group)}"
        lines.append((name, ran, *("–" if value is None else f"{value:.1e}" for value in values)))
    return head, lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """The worst of all against each target."""
    failed = sum(row["outcome"] != "ran" for row in rows)
    ran = [row for row in rows if row["outcome"] == "ran"]
    astray = sum(row["astray"] for row in ran)
    found = [
        Figure("combinations that hang or crash", failed, "= 0", failed == 0),
        Figure(
            "backward passes whose tokens did not leave when made to", astray, "= 0", astray == 0
        ),
    ]
    sgd, adam = ([row for row in ran if row["optimizer"] == name] for name in ("SGD", "AdamW"))
    for name, group, figure, target in (
        ("first gradients, relative to the largest", ran, "gradients", GRADIENTS),
        ("parameters after SGD", sgd, "parameters", PARAMETERS),
        ("losses under AdamW, relative", adam, "losses", LOSSES),
    ):
        value = worst(group, figure)
        found.append(Figure(name, value, f"≤ {target:g}", value is not None and value <= target))
    return found
