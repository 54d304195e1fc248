"""A file of results: a row a line, so that a benchmark that is stopped goes on where it was."""

import json
from pathlib import Path
from typing import Any

from benchmarks.harness.digest import ROOT
from benchmarks.harness.hardware import hardware

RESULTS = ROOT / "benchmarks" / "results"

Row = dict[str, Any]


class Rows:
    """The rows that are there, and those that are added.

    Each row says by which code, on what and when it was made.

    Args:
        path: of the file, lines of JSON; None: rows are kept in memory alone.
        code: digest of what rows depend on. Rows of other code don't count.
        same_machine: rows of another machine or another PyTorch don't count either, as for figures
            of time.
        again: what is in the file doesn't count.
    """

    def __init__(
        self, path: Path | None, code: str, *, same_machine: bool = False, again: bool = False
    ):
        self.path = path
        self.made_by = {"code": code, **hardware()}
        counts = set(self.made_by) - {"date"} if same_machine else {"code"}
        self._wanted = {name: self.made_by[name] for name in counts}
        self._rows = [] if path is None or again else read(path)

    def find(self, **key: Any) -> Row | None:
        """The newest row with these values that counts; None where there is none."""
        return self.newest(**key, **self._wanted)

    def newest(self, **key: Any) -> Row | None:
        """The newest row with these values, whatever code and machine it comes from."""
        for row in reversed(self._rows):
            if all(name in row and row[name] == value for name, value in key.items()):
                return row
        return None

    def add(self, row: Row) -> Row:
        """Writes a row down, with what made it; gives it as it was written."""
        full = {**row, **self.made_by}
        self._rows.append(full)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                if file.tell() and not _ends_a_line(self.path):
                    file.write(b"\n")
                file.write(json.dumps(full, ensure_ascii=False).encode() + b"\n")
        return full


def read(path: Path) -> list[Row]:
    """The rows of a file, the oldest first; none where there is no file. A line that was cut off
    when its benchmark was killed is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _ends_a_line(path: Path) -> bool:
    return path.read_bytes()[-1:] == b"\n"
