"""`python -m benchmarks.trouble`: thousands of bad inputs, each in a child of its own. Not one may
end in a traceback, hang, run a stranger's code, succeed where no written rule allows it, or lose
what was there."""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.cli import at_least_one, finish, make_parser, open_rows
from benchmarks.harness.digest import PACKAGES, code_digest
from benchmarks.harness.report import Figure
from benchmarks.trouble import (
    command_lines,
    config_files,
    ds_configs,
    http_attacks,
    run_files,
    surroundings,
)
from benchmarks.trouble.case import Case
from benchmarks.trouble.forked import import_everything, run_cases
from benchmarks.trouble.material import Material
from benchmarks.trouble.verdict import FAULTS, faults, mechanism
from halting.errors import UsageError

MEASURED = (*PACKAGES, "benchmarks/trouble")
_BLOCK = 50
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Family:
    """Cases of one kind.

    Args:
        make: the case of a number.
        count: how many are asked for.
        quick: how many with --quick.
    """

    make: Callable[[int, Material], Case]
    count: int
    quick: int


FAMILIES = {
    command_lines.KIND: Family(command_lines.make, 3000, 24),
    config_files.KIND: Family(config_files.make, 2000, 16),
    ds_configs.KIND: Family(ds_configs.make, 1000, 8),
    run_files.KIND: Family(run_files.make, 400, 8),
    http_attacks.KIND: Family(http_attacks.make, 104, 6),
    surroundings.KIND: Family(surroundings.make, 66, 6),
}


def main(argv: Sequence[str]) -> int:
    """Runs what is missing; 0 when nothing was wrong, 1 when something was."""
    parser = make_parser("trouble", __doc__, quick="some of each kind")
    parser.add_argument("--kinds", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument(
        "--only",
        metavar="KIND:NUMBER",
        nargs="+",
        help="these cases, with their output; nothing is kept",
    )
    parser.add_argument("--count", type=at_least_one, help="cases of each kind")
    parser.add_argument("--workers", type=at_least_one, default=1, help="cases at once")
    options = parser.parse_args(argv)
    _on_one_thread()
    import_everything()
    with tempfile.TemporaryDirectory(prefix="trouble-") as folder:
        work = Path(folder)
        material = Material(work)
        if options.only:
            return _show(options.only, material, work)
        rows = open_rows("trouble", options, code_digest(*MEASURED))
        told: list[dict[str, Any]] = []
        for kind in options.kinds:
            family = FAMILIES[kind]
            count = options.count or (family.quick if options.quick else family.count)
            for first in range(0, count, _BLOCK):
                block = range(first, min(first + _BLOCK, count))
                key = {"kind": kind, "first": first, "cases": len(block)}
                row = rows.find(**key)
                if row is None:
                    row = rows.add(
                        {**key, **_run_block(kind, block, material, work, options.workers)}
                    )
                    _tell(row)
                told.append(row)
    return finish(options, figures_of(told, options.kinds), judges_quick=True)


def _run_block(
    kind: str, block: range, material: Material, work: Path, workers: int
) -> dict[str, Any]:
    """What came of some cases: how many ended how, and those that are guilty of something."""
    cases = [FAMILIES[kind].make(number, material) for number in block]
    codes: Counter[str] = Counter()
    guilty = []
    for case, ended, wrong in run_cases(cases, work, workers):
        codes["refused" if ended.code == 2 else "taken" if ended.code == 0 else "other"] += 1
        guilty += [
            {
                "case": case.name,
                "fault": fault,
                "says": says,
                "did": case.says[:200],
                "mechanism": mechanism(fault, says, ended.said),
            }
            for fault, says in faults(case, ended, wrong)
        ]
    return {"ended": dict(codes), "guilty": guilty}


def _tell(row: dict[str, Any]) -> None:
    print(
        f"{row['kind']} {row['first']}…{row['first'] + row['cases'] - 1}: {row['ended']}",
        flush=True,
    )
    for each in row["guilty"]:
        print(f"  {each['case']} {each['fault']}: {each['did']!r}: {each['says']}", flush=True)


def _show(names: Sequence[str], material: Material, work: Path) -> int:
    """Runs single cases, and prints what they say."""
    cases = []
    for name in names:
        kind, _, number = name.rpartition(":")
        if kind not in FAMILIES or not number.isdecimal():
            raise UsageError(
                f"--only {name}.",
                f"A case is named by its kind ({', '.join(FAMILIES)}) and its number.",
                f"Write --only {command_lines.KIND}:17.",
            )
        cases.append(FAMILIES[kind].make(int(number), material))
    failed = False
    for case, ended, wrong in run_cases(cases, work):
        found = faults(case, ended, wrong)
        failed |= bool(found)
        print(f"== {case.name}: {case.says}\nponder {' '.join(map(_shown, case.words))}")
        print(f"rule {case.rule}, exit code {ended.code}, {ended.seconds} s\n{ended.said}")
        print(json.dumps(found, ensure_ascii=False), flush=True)
    return int(failed)


def _shown(word: str) -> str:
    return repr(word)[:200] if not word.isprintable() or " " in word or not word else word[:200]


def figures_of(rows: Sequence[dict[str, Any]], kinds: Sequence[str]) -> list[Figure]:
    """How many cases of each kind there were, and how many were guilty of what."""
    figures = []
    for kind in kinds:
        count = sum(row["cases"] for row in rows if row["kind"] == kind)
        figures.append(Figure(f"{kind}: cases", count, "≥ 1", count >= 1))
    for fault in FAULTS:
        guilty = sum(each["fault"] == fault for row in rows for each in row["guilty"])
        figures.append(Figure(f"cases of {fault}", guilty, "= 0", guilty == 0))
    by = Counter((each["fault"], each["mechanism"]) for row in rows for each in row["guilty"])
    example = {
        (each["fault"], each["mechanism"]): each["case"]
        for row in reversed(rows)
        for each in row["guilty"]
    }
    for (fault, how), count in by.most_common():
        print(f"{count:5d}  {fault}: {how} ({example[fault, how]})")
    return figures


def _on_one_thread() -> None:
    """Starts again with one thread, before anything has started others: the cases are forked."""
    if any(os.environ.get(name) != "1" for name in _ONE_THREAD) and "pytest" not in sys.modules:
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.trouble", *sys.argv[1:]], environment
        )
