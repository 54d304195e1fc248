"""`python -m benchmarks.compute`: ratios of time and memory against their targets.

All ratios are taken in one process, from runs in turns: the median of the turns' ratios, with the
quarters below and above. First the tests of what is timed have to pass. Figures that are there
already, measured by this code on this machine, are not measured again, so a run that is stopped
goes on where it was.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.compute.suites import SUITES, Case
from benchmarks.harness.cli import at_least_one, finish, make_parser, open_rows, results_file
from benchmarks.harness.digest import PACKAGES, ROOT, code_digest
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import Figure, Table, print_table
from benchmarks.harness.rows import Row
from training.console.table import markdown

MEASURING = (
    "benchmarks/compute/bare.py",
    "benchmarks/compute/halting_times.py",
    "benchmarks/compute/saved_bytes.py",
    "benchmarks/compute/shape.py",
    "benchmarks/compute/timing.py",
    "benchmarks/harness/updates.py",
)
"""What all figures are measured with."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is missing; 0 when all targets are met, 1 when one is missed, 2 when the tests
    fail."""
    parser = make_parser("compute", __doc__, quick="one turn of each")
    parser.add_argument("--suite", choices=SUITES, default="cpu", help="which figures")
    parser.add_argument(
        "--only", nargs="+", default=(), help="figures whose name holds one of these texts"
    )
    parser.add_argument("--turns", type=at_least_one, default=7, help="runs of each, in turns")
    options = parser.parse_args(argv)
    suite = SUITES[options.suite]
    cases = [
        case
        for case in suite.cases
        if not options.only or any(text in case.name for text in options.only)
    ]
    if not cases:
        parser.error(f"no figure of the suite holds {' or '.join(options.only)} in its name")
    if suite.needs_gpu and not torch.cuda.is_available():
        parser.error(
            f"--suite {options.suite}: it measures a GPU, and torch sees none here (ponder doctor "
            "says more)"
        )
    torch.set_num_threads(1)
    if not is_right(suite.correct):
        return 2
    rows = []
    for case in cases:
        kept = open_rows(options.suite, options, code_version(case), same_machine=True)
        row = kept.find(name=case.name)
        if row is None:
            row = _measure(case, 1 if options.quick else options.turns)
            if row["value"] is not None:
                kept.add(row)
        rows.append(row)
        print(f"{_value(row):>8}  {case.sense} {case.limit:g}  {case.name}", flush=True)
    print_table(table(cases, rows))
    told = results_file(f"{options.suite}.md", options)
    if told is not None and not options.only:
        told.write_text(page(options.suite, cases, rows), encoding="utf-8")
    return finish(options, against_targets(cases, rows))


def is_right(tests: Sequence[str]) -> bool:
    """Whether the tests of what is timed pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(
            f"{done.stdout[-3000:]}\nThe tests of what is timed fail, so nothing is measured.",
            file=sys.stderr,
        )
    return done.returncode == 0


def code_version(case: Case) -> str:
    """A fingerprint of what a figure depends on: the packages, and what measures it."""
    own = Path(case.source.__file__ or __file__).relative_to(ROOT).as_posix()
    return code_digest(*PACKAGES, *MEASURING, own)


def _measure(case: Case, turns: int) -> Row:
    measured = case.measure(turns)
    row: Row = {"name": case.name, "turns": 1, "value": measured}
    if isinstance(measured, list):
        low, middle, high = np.quantile(measured, (0.25, 0.5, 0.75)).tolist()
        row |= {"value": middle, "low": low, "high": high, "turns": len(measured)}
    return row


def _value(row: Row) -> str:
    return "not run" if row["value"] is None else f"{row['value']:.3f}"


def table(cases: Sequence[Case], rows: Sequence[Row]) -> Table:
    """Head and rows."""
    lines = []
    for case, row in zip(cases, rows, strict=True):
        spread = (
            f"{row['low']:.3f} … {row['high']:.3f}"
            if "low" in row
            else "exact"
            if case.exact
            else "one"
        )
        value = row["value"]
        verdict = f"needs {case.needs}" if value is None else "met" if case.met(value) else "missed"
        lines.append(
            (
                case.name,
                _value(row),
                f"{case.sense} {case.limit:g}",
                spread if value is not None else "–",
                verdict,
            )
        )
    return ("figure", "value", "target", "middle half", ""), lines


def page(suite: str, cases: Sequence[Case], rows: Sequence[Row]) -> str:
    """The table with what it was measured on, as Markdown."""
    machine = hardware()
    about = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "date")
    return (
        f"# Suite {suite}\n\n`python -m benchmarks.compute --suite {suite}`, {machine['date']}, "
        f"{about}. Medians of ratios from runs in turns, "
        f"{SUITES[suite].about}.\n\n{markdown(*table(cases, rows))}\n"
    )


def against_targets(cases: Sequence[Case], rows: Sequence[Row]) -> list[Figure]:
    """Value and target of each; one that could not be measured is not met."""
    return [
        Figure(
            case.name,
            row["value"],
            f"{case.sense} {case.limit:g}",
            row["value"] is not None and case.met(row["value"]),
        )
        for case, row in zip(cases, rows, strict=True)
    ]
