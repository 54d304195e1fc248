"""`python -m benchmarks.unequal`: ranks that loop unequally, under every ZeRO stage, against one
process.

At every update one rank leaves the loop at step 1 and the next goes on to the limit, changing
places; now and then a rank has no token at all. Every combination of stage, accumulation, backprop
and optimizer trains on 2 ranks and on 3. Those that share a number of ranks run in one launch,
under a watchdog: one that hangs or crashes is named, and the rest goes on. Rows that are there
already, from this code, are not run again.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.digest import ROOT, code_digest
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import Figure, exit_code, write
from benchmarks.harness.trainings import RESULTS, Row
from benchmarks.unequal.case import BACKPROPS, RATES, Case
from training.console.table import aligned, markdown
from training.distributed.process_group import free_port

KEPT = RESULTS / "unequal.jsonl"
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
    "training/objectives/objective.py",
    "training/engine/ds_config.py",
    "training/engine/engine.py",
    "training/engine/local.py",
    "training/engine/deferred_gradients.py",
    "training/engine/zero.py",
)
"""What a row depends on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing; 0 when all targets are met, 1 when one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unequal", description=__doc__)
    parser.add_argument(
        "--ranks", type=int, nargs="+", choices=RANKS, default=RANKS, help="how many"
    )
    parser.add_argument(
        "--limit", type=float, default=180.0, help="seconds without an update that count as hung"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_UPDATES} updates, nothing kept: does it run?"
    )
    parser.add_argument("--json", type=Path, default=None, help="write figures, values and targets")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cases = all_cases(options.ranks, QUICK_UPDATES if options.quick else UPDATES)
    kept = None if options.quick else KEPT
    rows = _there(kept, cases) if kept else {}
    for ranks in options.ranks:
        missing = [case for case in cases if case.ranks == ranks and case not in rows]
        for case, row in run_all(missing, options.limit):
            rows[case] = row
            print(_line(row), flush=True)
            if kept is not None and row["outcome"] == "ran":
                kept.parent.mkdir(parents=True, exist_ok=True)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    ordered = [rows[case] for case in sorted(cases, key=lambda case: (case.ranks, case.stage))]
    head, lines = table(ordered)
    print("\n" + aligned(head, lines) + "\n\n" + markdown(head, lines))
    figures = against_targets(ordered)
    print(
        "\n" + "\n".join(f"{'met' if each.met else 'MISSED':>6}  {_said(each)}" for each in figures)
    )
    if options.json is not None:
        write(figures, options.json)
    return exit_code(figures)


def all_cases(ranks: Sequence[int], updates: int) -> list[Case]:
    """Every combination, all stages of one before the next."""
    combinations = itertools.product(ranks, ACCUMULATIONS, BACKPROPS, RATES, STAGES)
    return [
        Case(count, stage, accumulation, kind, optimizer, updates)
        for count, accumulation, kind, optimizer, stage in combinations
    ]


def run_all(cases: Sequence[Case], limit: float) -> Iterator[tuple[Case, Row]]:
    """The row of each, as it ends; they share a number of ranks."""
    waiting = list(cases)
    made_by = {"code": code_digest(*MEASURED), **hardware()}
    while waiting:
        with tempfile.TemporaryDirectory() as folder:
            watch = Watch(Path(folder), waiting, limit)
            for row in watch.rows():
                case = waiting.pop(0)
                assert row["name"] == case.name
                yield case, {**row, **made_by}


class Watch:
    """One launch under a watchdog: its processes are killed, each by its own group, when no update
    comes for too long or one of them fails.

    Args:
        folder: to write in.
        cases: what to train, in this order.
        limit: seconds without an update.
    """

    def __init__(self, folder: Path, cases: Sequence[Case], limit: float):
        self.folder = folder
        self.cases = cases
        self.limit = limit
        self.now = folder / "now.json"
        self.kept = folder / "rows.jsonl"
        (folder / "cases.json").write_text(
            json.dumps([asdict(case) for case in cases]), encoding="utf-8"
        )

    def rows(self) -> Iterator[Row]:
        """Rows as they come; where the launch ends early, the last one says how."""
        processes = self._start()
        told = 0
        began = time.time()
        try:
            while told < len(self.cases):
                time.sleep(0.2)
                codes = [process.poll() for process in processes]
                last = self.now.stat().st_mtime if self.now.exists() else began
                for row in self._written()[told:]:
                    told += 1
                    yield row
                if any(codes) or (None not in codes and told < len(self.cases)):
                    yield self._ended("crashed", self.cases[told])
                    return
                if time.time() - last > self.limit:
                    yield self._ended("hung", self.cases[told])
                    return
        finally:
            _kill(processes)

    def _start(self) -> list[subprocess.Popen[bytes]]:
        ranks = self.cases[0].ranks
        processes = []
        shared = {
            "WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
            "OMP_NUM_THREADS": 1,
        }
        # A rank waits longer than the watchdog does, so that who hangs is named as hung.
        command = [
            sys.executable,
            "-m",
            "benchmarks.unequal.worker",
            str(self.folder),
            str(2 * self.limit),
        ]
        for rank in range(ranks):
            names = {**shared, "RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": ROOT}
            environment = {**os.environ, **{name: str(value) for name, value in names.items()}}
            with (self.folder / f"said{rank}.log").open("w") as log:
                processes.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        cwd=ROOT,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        return processes

    def _written(self) -> list[Row]:
        lines = (
            self.kept.read_text(encoding="utf-8").splitlines(keepends=True)
            if self.kept.exists()
            else []
        )
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _ended(self, outcome: str, case: Case) -> Row:
        said = "\n".join(
            path.read_text(errors="replace")[-1500:]
            for path in sorted(self.folder.glob("said*.log"))
        )
        print(f"{case.name}: {outcome}\n{said}", file=sys.stderr)
        return {"name": case.name, **asdict(case), "outcome": outcome}


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 5  # those that are done leave by themselves
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _there(path: Path, cases: Sequence[Case]) -> dict[Case, Row]:
    """The newest row of each case that this code gave."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    wanted = {(case.name, case.updates): case for case in cases}
    code = code_digest(*MEASURED)
    rows = [row for row in map(json.loads, lines) if row["code"] == code]
    return {wanted[key]: row for row in rows if (key := (row["name"], row["updates"])) in wanted}


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


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
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


def _said(figure: Figure) -> str:
    return (
        f"{figure.figure}: {'–' if figure.value is None else f'{figure.value:.1e}'} "
        f"({figure.target})"
    )
