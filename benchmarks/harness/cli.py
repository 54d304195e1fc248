"""The command line of a benchmark: arguments that all of them take, and how they end."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.report import Figure, exit_code, figures_text, write
from benchmarks.harness.rows import RESULTS, Rows


def make_parser(
    name: str, about: str | None, *, quick: str, rows: bool = True
) -> argparse.ArgumentParser:
    """A parser with --quick and --json, and where rows are kept with --results and --again.

    Args:
        name: of the benchmark: `python -m benchmarks.NAME`.
        about: what it is about, its module's docstring.
        quick: what --quick shortens, in words.
        rows: it keeps rows.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    kept = "; nothing is kept unless --results says where" if rows else ""
    parser.add_argument("--quick", action="store_true", help=f"does it run at all? {quick}{kept}")
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write figures and targets"
    )
    if rows:
        _add_rows(parser)
    return parser


def make_training_parser(
    name: str,
    about: str | None,
    *,
    quick: str = "60 updates and one seed",
    seeds: int = 3,
    workers: int = 2,
) -> argparse.ArgumentParser:
    """The same for a benchmark whose rows are whole trainings, with --seeds, --workers and --kept.

    Args:
        name, about, quick: as above.
        seeds, workers: what these are unless told otherwise.
    """
    parser = make_parser(name, about, quick=quick, rows=False)
    _add_rows(parser).add_argument(
        "--kept", action="store_true", help="run nothing: tell what kept rows say, of any code"
    )
    parser.add_argument("--seeds", type=at_least_one, default=seeds, help="trainings of each")
    parser.add_argument("--workers", type=at_least_one, default=workers, help="trainings at once")
    return parser


def _add_rows(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    parser.add_argument(
        "--results",
        type=Path,
        default=None,
        metavar="DIR",
        help="the folder of rows (default: benchmarks/results)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="measure also what is there already")
    return which


def seeds_of(options: argparse.Namespace) -> range:
    """The seeds that are asked for; with --quick one."""
    return range(1 if options.quick else options.seeds)


def open_rows(
    name: str, options: argparse.Namespace, code: str, *, same_machine: bool = False
) -> Rows:
    """The rows of a benchmark, where the options say that they are kept.

    Args:
        name: of the file.
        options: from `make_parser`.
        code: digest of what rows depend on.
        same_machine: see `Rows`.
    """
    return Rows(
        results_file(f"{name}.jsonl", options), code, same_machine=same_machine, again=options.again
    )


def results_file(name: str, options: argparse.Namespace) -> Path | None:
    """Where a benchmark keeps a file, "-quick" before its suffix with --quick; None: nowhere."""
    if options.quick and options.results is None:
        return None
    path = Path(options.results or RESULTS) / name
    return path.with_stem(f"{path.stem}-quick") if options.quick else path


def finish(
    options: argparse.Namespace, figures: Sequence[Figure], *, judges_quick: bool = False
) -> int:
    """Prints figures against targets, writes them where asked for, and gives the exit code: 0 when
    all are met, 1 when one is missed.

    Args:
        options: from `make_parser`.
        figures: of the benchmark.
        judges_quick: the figures mean something with --quick too; else it ends with 0 then.
    """
    print("\n" + figures_text(figures), flush=True)
    if options.json is not None:
        write(figures, options.json)
    return exit_code(figures) if judges_quick or not options.quick else 0


def at_least_one(text: str) -> int:
    """A whole number from 1 on, as an argument's type."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
