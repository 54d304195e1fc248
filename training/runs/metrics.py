"""What a run measured, written down as it goes: metrics.jsonl always, and TensorBoard."""

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halting.errors import UsageError
from training.checkpoints import checkpoint
from training.console.command_text import command_text
from training.console.output_files import cannot_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE = "metrics.jsonl"
DAMAGED = "metrics.damaged.jsonl"

Report = Callable[[Sequence[tuple[str, float, int]]], None]
"""Takes some figures, each with its name, value and update."""


class Metrics:
    """Writes one JSON object a line, and the numbers in it to TensorBoard. Each line is flushed, so
    that a run that dies leaves all that it measured. Lines of an earlier start that cannot be read
    are moved into a file beside.

    TensorBoard and the reports are side channels: one that fails is told of and written to no more.

    Args:
        folder: the run folder; None writes nothing (ranks other than the first).
        update: updates done before; lines of later ones, which a killed run left behind its last
            checkpoint, are cut off.
        reports: others that get the numbers.
        warn: told of damaged lines, and of side channels that fail.
    """

    def __init__(
        self,
        folder: Path | None,
        update: int = 0,
        reports: Sequence[Report] = (),
        warn: Callable[[str], None] = lambda text: None,
    ):
        self._file = self._board = None
        self._reports = list(reports)
        self._warn = warn
        if folder is None:
            return
        self._path = folder / FILE
        with self._writing():
            if damaged := _cut_after(self._path, update):
                lines = f"{damaged} line{'s' if damaged > 1 else ''}"
                warn(f"{lines} of {self._path} cannot be read: set aside in {DAMAGED}")
            self._file = self._path.open("a", encoding="utf-8")
        self._beside("TensorBoard", lambda: setattr(self, "_board", _board(folder, update)))

    def write(self, kind: str, update: int, **values: Any) -> None:
        """One line: {"kind": …, "update": …, values}. Numbers go to TensorBoard and to the reports
        as kind/name.

        Raises:
            UsageError: where the line cannot be written.
        """
        if self._file is None:
            return
        with self._writing():
            self._file.write(to_json({"kind": kind, "update": update, **values}) + "\n")
            self._file.flush()
        figures = [
            (f"{kind}/{name}", value, update)
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        board = self._board
        if board is not None and not self._beside(
            "TensorBoard", lambda: [board.add_scalar(*figure) for figure in figures]
        ):
            self._board = None
        for report in self._reports if figures else ():
            if not self._beside("--report-to", lambda report=report: report(figures)):
                self._reports = [each for each in self._reports if each is not report]

    def rewind(self, update: int, beside: str) -> None:
        """Takes the lines after an update out of the file, into another one beside it: a run goes
        on from there, and they are what it did not come to.

        Args:
            update: the last that counts.
            beside: name of the file for the others.

        Raises:
            UsageError: where they cannot be written.
        """
        if self._file is None:
            return
        self.close()
        with self._writing():
            lines = self._path.read_bytes().splitlines(keepends=True)
            found = ((line, _read(line)) for line in lines)
            later = [line for line, about in found if about and about["update"] > update]
            self._path.with_name(beside).write_bytes(b"".join(later))
            _cut_after(self._path, update)
            self._file = self._path.open("a", encoding="utf-8")
        folder = self._path.parent
        self._beside("TensorBoard", lambda: setattr(self, "_board", _board(folder, update)))

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._board is not None:
            self._beside("TensorBoard", self._board.close)
            self._board = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raises UsageError where a write fails."""
        try:
            yield
        except OSError as error:
            raise failed_write(self._path.parent, self._path, error) from error

    def _beside(self, name: str, act: Callable[[], object]) -> bool:
        """Does something that no training depends on; whether it went well."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 — packages of others raise many kinds
            self._warn(f"{name} gets no more figures: {error}; {FILE} has all of them")
            return False
        return True


def _board(folder: Path, update: int) -> "SummaryWriter | None":
    """TensorBoard's file, without what it holds of later updates; None where it is not installed:
    the doctor says so, and an error here would be rank 0's alone, while the others wait."""
    try:  # late: it is slow to import, and other ranks don't need it
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    _quiet_writer_threads()
    return SummaryWriter(str(folder), purge_step=update + 1 if update else None, flush_secs=30)


def _quiet_writer_threads() -> None:
    """Has the thread that writes TensorBoard's file end without a traceback on the screen where it
    cannot write: the next figure raises what it met, and is told of."""
    before = threading.excepthook
    if getattr(before, "spares_tensorboard", False):
        return

    def told(given: threading.ExceptHookArgs) -> None:
        if not type(given.thread).__module__.startswith("tensorboard."):
            before(given)

    told.spares_tensorboard = True  # pyright: ignore[reportFunctionMemberAccess]
    threading.excepthook = told


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
    """The lines of a run, of one kind or all; none where it has no file of them. Those that cannot
    be read are left out."""
    path = folder / FILE
    if not path.is_file():
        return []
    lines = map(_read, path.read_bytes().splitlines())
    return [line for line in lines if line is not None and kind in (None, line["kind"])]


def failed_write(home: Path, path: Path, error: OSError) -> UsageError:
    """The error for a file of a run folder that cannot be written, with its last checkpoint."""
    kept = checkpoint.found(home / "checkpoints")
    last = f"The last checkpoint is {kept[-1]}" if kept else "There is no checkpoint yet"
    said = cannot_write(path, error)
    command = command_text("ponder", "train", "--resume", home)
    again = f" Then go on: {command}" if kept else ""
    return UsageError(
        said.what,
        f"What a run measures and learns is written as it goes. {last}.",
        said.write + again,
    )


def _read(line: bytes) -> dict[str, Any] | None:
    """A line; None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = (
        isinstance(found, dict)
        and isinstance(found.get("kind"), str)
        and isinstance(found.get("update"), int)
    )
    return found if sound else None


def _cut_after(path: Path, update: int) -> int:
    """Drops the lines after an update, and one that was never finished; moves those that cannot be
    read into a file beside, and gives how many they were."""
    if not path.exists():
        return 0
    kept = []
    damaged = []
    lines = path.read_bytes().splitlines(keepends=True)
    for line in lines:
        found = _read(line)
        if found is None and line.endswith(b"\n"):
            damaged.append(line)
        elif found is not None and line.endswith(b"\n") and found["update"] <= update:
            kept.append(line)
    if damaged:
        with path.with_name(DAMAGED).open("ab") as file:
            file.write(b"".join(damaged))
    if len(kept) < len(lines):
        beside = path.with_suffix(".partial")
        beside.write_bytes(b"".join(kept))
        beside.replace(path)
    return len(damaged)
