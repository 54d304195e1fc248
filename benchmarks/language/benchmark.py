"""`python -m benchmarks.language`: language models. Their data: a corpus of 1 GB made into tokens,
and how fast rows of them come beside a training. Packed documents: as each alone, and what their
bounds cost. The loss of a large vocabulary: its memory and time."""

import argparse
from collections.abc import Sequence
from types import ModuleType

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import code_digest
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import print_table
from benchmarks.harness.rows import Row
from benchmarks.language import alone_rows, data_rows, loss_rows, packed_rows
from benchmarks.language.data_rows import QUICK, Size

PARTS: dict[str, ModuleType] = {
    "data": data_rows,
    "alone": alone_rows,
    "packed": packed_rows,
    "loss": loss_rows,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing; 1 where a target is missed, 2 where a row could not be measured."""
    parser = make_parser("language", __doc__, quick="2 MB, a few updates, small sizes")
    parser.add_argument("--corpus", type=int, default=None, help="MB of the corpus (default: 1000)")
    parser.add_argument(
        "--rows", nargs="+", choices=list(PARTS), default=list(PARTS), help="only these"
    )
    options = parser.parse_args(argv)
    print(" · ".join(hardware().values()))
    figures = []
    failed = []
    for name in options.rows:
        part = PARTS[name]
        rows = _rows(part, options)
        print_table(part.table(rows))
        failed += [row["failed"] for row in rows if "failed" in row]
        figures += part.against_targets(rows)
    if failed:
        print("\n".join(failed))
        return 2
    return finish(options, figures)


def _rows(part: ModuleType, options: argparse.Namespace) -> list[Row]:
    """The rows of a part; only those that are missing are measured."""
    kept = open_rows("language", options, code_digest(*part.CODE), same_machine=True)
    if part is not data_rows:
        return part.measure(kept, options.quick)
    size = QUICK if options.quick else Size()
    if options.corpus is not None:
        size = Size(options.corpus * 1_000_000, size.updates, size.seconds)
    return data_rows.measure(kept, size)
