"""`python -m benchmarks.memory`: what `--dry-run` says of memory and communication, against a real
engine on two ranks.

For each file in ds_configs: bytes of tensors, the process's resident memory, and what DeepSpeed's
log of collectives shows, over what was foretold. Rows that this code gave on this machine are not
measured again, so a benchmark that is stopped goes on where it was.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import PACKAGES, ROOT, code_digest
from benchmarks.harness.ranks import launch
from benchmarks.harness.report import Figure, Table, print_table
from benchmarks.harness.rows import Row
from benchmarks.memory.worker import config_of
from training.resources.dry_run import plan

RANKS = 2
WIDTH = 1664
QUICK_WIDTH = 256
WAYS = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
TENSORS, PROCESS, SENT = 0.1, 0.2, 0.05
"""How far what was measured may be from what was foretold."""
MEASURED = (
    *PACKAGES,
    "ds_configs",
    "benchmarks/harness/ranks.py",
    "benchmarks/memory/case.py",
    "benchmarks/memory/live_tensors.py",
    "benchmarks/memory/worker.py",
)
"""What a row depends on: the model, the engines, what is foretold, and what measures it."""
LEAST = 500e6
"""Bytes of a model from which the process is held against its target: what else lies in it weighs
less then."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing; 0 when all targets are met, 1 when one is missed, 2 when ranks
    failed or hung."""
    parser = make_parser("memory", __doc__, quick="a small model")
    parser.add_argument(
        "--patience",
        type=float,
        default=900.0,
        help="seconds without a sign before ranks are killed",
    )
    options = parser.parse_args(argv)
    width = QUICK_WIDTH if options.quick else WIDTH
    kept = open_rows("memory", options, code_digest(*MEASURED), same_machine=True)
    rows = []
    for way in WAYS:
        row = kept.find(way=way)
        if row is None:
            row = _measure(way, width, options.patience)
            if isinstance(row, str):
                print(row, file=sys.stderr)
                return 2
            kept.add(row)
            print(_line(row), flush=True)
        rows.append(row)
    print_table(table(rows))
    return finish(options, against_targets(rows), judges_quick=True)


def _measure(way: str, width: int, patience: float) -> Row | str:
    """A row, or the end of the log where the ranks failed."""
    ds_config = str(ROOT / "ds_configs" / f"{way}.json")
    said = plan(config_of(width, ds_config), RANKS)
    [sent] = [each.sent for each in said.communication_volume if each.sharing == said.own.sharing]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [str(width), ds_config, name]
        failed = launch(
            "benchmarks.memory.worker",
            arguments,
            RANKS,
            folder / "log",
            lambda: len(list(folder.iterdir())),
            patience,
        )
        if failed:
            return f"{way}: {failed}"
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return {
        "way": way,
        "model": 4 * said.parameters["total"],
        "measured": found,
        "foretold": {
            "held": said.own.held,
            "after_forward": said.own.after_forward(said.activations.bytes),
            "process": said.own.peak(said.activations.bytes),
            "sent": sent,
        },
    }


def _ratio(row: Row, what: str) -> float:
    return row["measured"][what] / row["foretold"][what]


def _line(row: Row) -> str:
    ratios = ", ".join(f"{what} {_ratio(row, what):.2f}" for what in row["foretold"])
    return f"{row['way']}: measured / foretold: {ratios}"


def table(rows: Sequence[Row]) -> Table:
    """Measured bytes, and in brackets over what was foretold."""

    def cell(row: Row, what: str) -> str:
        return f"{row['measured'][what] / 1e6:,.0f} MB ({_ratio(row, what):.2f})"

    kinds = ("held", "after_forward", "process", "sent")
    head = (
        "measured (/ foretold)",
        "before the update",
        "after forward",
        "process, most",
        "sent per update",
    )
    return head, [(row["way"], *(cell(row, what) for what in kinds)) for row in rows]


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """Each ratio against how far it may be from 1."""
    figures = []
    for row in rows:
        for what, name, limit in (
            ("held", "tensors before the update", TENSORS),
            ("after_forward", "tensors after the forward pass", TENSORS),
            ("process", "most memory of the process", PROCESS),
            ("sent", "bytes sent", SENT),
        ):
            if what == "process" and row["model"] < LEAST:
                continue
            ratio = _ratio(row, what)
            figures.append(
                Figure(f"{row['way']}: {name}", ratio, f"1 ± {limit:g}", abs(ratio - 1) <= limit)
            )
    return figures
