"""What a run measured, written down as it goes: metrics.jsonl always, and TensorBoard."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE = "metrics.jsonl"

Report = Callable[[Sequence[tuple[str, float, int]]], None]
"""Takes some figures, each with its name, value and update."""


class Metrics:
    """Writes one JSON object a line, and the numbers in it to TensorBoard. Each line is flushed, so
    that a run that dies leaves all that it measured.

    Args:
        folder: the run folder; None writes nothing (ranks other than the first).
        update: updates done before; lines of later ones, which a killed run left behind its last
            checkpoint, are cut off.
        reports: others that get the numbers.
    """

    def __init__(self, folder: Path | None, update: int = 0, reports: Sequence[Report] = ()):
        self._file = self._board = None
        self._reports = list(reports)
        if folder is None:
            return
        self.cut_off = _cut_after(folder / FILE, update)
        self._file = (folder / FILE).open("a", encoding="utf-8")
        self._board = _new_board(folder, update)

    def write(self, kind: str, update: int, **values: Any) -> None:
        """One line: {"kind": …, "update": …, values}. Numbers go to TensorBoard and to the reports
        as kind/name."""
        if self._file is None:
            return
        self._file.write(to_json({"kind": kind, "update": update, **values}) + "\n")
        self._file.flush()
        figures = [
            (f"{kind}/{name}", value, update)
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        if self._board is not None:
            for figure in figures:
                self._board.add_scalar(*figure)
        if figures:
            for report in self._reports:
                report(figures)

    def rewind(self, update: int, beside: str) -> None:
        """Takes the lines after an update out of the file, into another one beside it: a run goes
        on from there, and they are what it did not come to.

        Args:
            update: the last that counts.
            beside: name of the file for the others.
        """
        if self._file is None:
            return
        folder = Path(self._file.name).parent
        self.close()
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines(keepends=True)
        later = [line for line in lines if json.loads(line)["update"] > update]
        (folder / beside).write_text("".join(later), encoding="utf-8")
        _cut_after(folder / FILE, update)
        self._file = (folder / FILE).open("a", encoding="utf-8")
        self._board = _new_board(folder, update)

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _new_board(folder: Path, update: int) -> "SummaryWriter | None":
    """TensorBoard's writer, which hides what stands after an update; None where the extra
    `tensorboard` is not installed."""
    try:  # late: it is slow to import, and other ranks don't need it
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        # The doctor says so; an error here would be rank 0's alone, and the others would wait.
        return None
    return SummaryWriter(str(folder), purge_step=update + 1 if update else None, flush_secs=30)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that any reader takes: numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of a run, of one kind or all."""
    lines = [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if kind in (None, line["kind"])]


def _cut_after(path: Path, update: int) -> int:
    """Drops the lines after an update, and one that was never finished; how many they were."""
    if not path.exists():
        return 0
    kept = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for line in lines:
        try:
            if line.endswith("\n") and json.loads(line)["update"] <= update:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    if len(kept) < len(lines):
        beside = path.with_suffix(".partial")
        beside.write_text("".join(kept), encoding="utf-8")
        beside.replace(path)
    return len(lines) - len(kept)
