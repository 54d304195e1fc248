"""Launches of cases under a watchdog: one that hangs or crashes is named, and the rest goes on."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.ranks import kill_ranks, start_ranks
from benchmarks.harness.rows import Row, read
from benchmarks.unequal.case import Case


def run_all(cases: Sequence[Case], limit: float) -> Iterator[tuple[Case, Row]]:
    """The row of each, as it ends; they share a number of ranks."""
    waiting = list(cases)
    while waiting:
        with tempfile.TemporaryDirectory() as folder:
            watch = Watch(Path(folder), waiting, limit)
            for row in watch.rows():
                case = waiting.pop(0)
                assert row["name"] == case.name
                yield case, row


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
        # A rank waits longer than the watchdog does, so that who hangs is named as hung.
        words = [str(self.folder), str(2 * self.limit)]
        logs = [self.folder / f"said{rank}.log" for rank in range(self.cases[0].ranks)]
        processes = start_ranks("benchmarks.unequal.worker", words, logs)
        told = 0
        began = time.time()
        try:
            while told < len(self.cases):
                time.sleep(0.2)
                codes = [process.poll() for process in processes]
                last = self.now.stat().st_mtime if self.now.exists() else began
                for row in read(self.kept)[told:]:
                    told += 1
                    yield row
                if any(codes) or (None not in codes and told < len(self.cases)):
                    yield self._ended("crashed", self.cases[told])
                    return
                if time.time() - last > self.limit:
                    yield self._ended("hung", self.cases[told])
                    return
        finally:
            kill_ranks(processes, grace=5.0)  # those that are done leave by themselves

    def _ended(self, outcome: str, case: Case) -> Row:
        said = "\n".join(
            path.read_text(errors="replace")[-1500:]
            for path in sorted(self.folder.glob("said*.log"))
        )
        print(f"{case.name}: {outcome}\n{said}", file=sys.stderr)
        return {"name": case.name, **asdict(case), "outcome": outcome}
