"""`python -m benchmarks.language`: language models. So far its first part, data: a corpus of 1 GB
made into tokens, and how fast rows of them come beside a training."""

from collections.abc import Sequence

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import code_digest
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import print_table
from benchmarks.language.data_rows import CODE, QUICK, Size, against_targets, measure, table


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing; 1 where a target is missed, 2 where a row could not be measured."""
    parser = make_parser("language", __doc__, quick="2 MB and a few updates")
    parser.add_argument("--corpus", type=int, default=None, help="MB of the corpus (default: 1000)")
    options = parser.parse_args(argv)
    size = QUICK if options.quick else Size()
    if options.corpus is not None:
        size = Size(options.corpus * 1_000_000, size.updates, size.seconds)
    print(" · ".join(hardware().values()))
    rows = measure(open_rows("language", options, code_digest(*CODE), same_machine=True), size)
    print_table(table(rows))
    failed = [row["failed"] for row in rows if "failed" in row]
    if failed:
        print("\n".join(failed))
        return 2
    return finish(options, against_targets(rows))
