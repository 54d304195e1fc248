"""`python -m benchmarks.signals`: a signal at every moment, to every process, under every launcher.

SIGTERM, SIGINT and SIGHUP; to one rank, all ranks, the launcher, the command, the process group,
and to the group twice at once; of a training started by `ponder train`, deepspeed, `ponder launch`
and torchrun; while it starts up, trains, saves, evaluates and tests. Asked for in each cell: it
ends in time, and all updates that were written down are in a checkpoint, or its output says why
not. Rows are kept after each cell, so that a benchmark that is stopped goes on where it was.
"""

import re
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness.cli import finish, make_parser, open_rows
from benchmarks.harness.digest import code_digest
from benchmarks.harness.report import Figure
from benchmarks.harness.rows import Rows
from benchmarks.signals.job import MOMENTS, STARTERS, Job, started

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")
MEASURED = (
    *("training/distributed", "training/loop", "training/start.py", "training/train.py"),
    *("training/cli/launch.py", "training/cli/main.py", "benchmarks/signals"),
)
"""What a row depends on."""
QUICK = (
    ("SIGTERM", "one process", "group", "starting"),
    ("SIGINT", "one process", "process", "saving"),
    ("SIGHUP", "one process", "twice", "evaluating"),
    ("SIGTERM", "one process", "process", "testing"),
    ("SIGTERM", "deepspeed", "group", "training"),
    ("SIGTERM", "ponder launch", "command", "training"),
    ("SIGTERM", "torchrun", "group", "evaluating"),
    ("SIGTERM", "deepspeed", "one rank", "starting"),
)
_WORDS = re.compile(r"stopped (?:by|as) .*while|ended at once|stopped by \S+ between|stopped after")
_OURS = re.compile(r'File ".*/(?:training|act|halting)/')


@dataclass(frozen=True)
class Cell:
    """One signal, and what came of it.

    Args:
        signal, starter, target, moment: which.
        came: it got as far as the moment.
        ended: nothing of it ran any more after two minutes.
        reached, saved: the last update that was written down, and that of the newest checkpoint.
        told: its output says that it was stopped.
        traceback: its output shows a traceback through this code.
        seconds: from the signal to the end.
        says: the end of the output, where it is not as asked for.
    """

    signal: str
    starter: str
    target: str
    moment: str
    came: bool
    ended: bool
    reached: int
    saved: int
    told: bool
    traceback: bool
    seconds: float
    says: str = ""

    @property
    def passes(self) -> bool:
        """Whether it is as asked for."""
        kept = self.saved >= self.reached
        return self.came and self.ended and kept and self.told and not self.traceback


def main(argv: Sequence[str] | None = None) -> int:
    """Sends what is missing; 0 when nothing was lost without a word, 1 when something was."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, what is started would not hear it
    parser = make_parser("signals", __doc__, quick=f"{len(QUICK)} cells")
    parser.add_argument("--starter", choices=STARTERS, action="append", help="these alone")
    parser.add_argument("--moment", choices=MOMENTS, action="append", help="these alone")
    parser.add_argument("--signal", choices=SIGNALS, action="append", help="these alone")
    options = parser.parse_args(argv)
    rows = open_rows("signals", options, code_digest(*MEASURED))
    cells = []
    for which in QUICK if options.quick else all_cells():
        number, starter, _, moment = which
        asked = (
            (options.signal, number),
            (options.starter, starter),
            (options.moment, moment),
        )
        if all(chosen is None or value in chosen for chosen, value in asked):
            cells.append(_kept(rows, which) or _measured(rows, which))
    return finish(options, figures_of(cells), judges_quick=True)


def all_cells() -> Iterator[tuple[str, str, str, str]]:
    """Signal, starter, target, moment: the signal that clusters send first."""
    for number in SIGNALS:
        for starter, targets in STARTERS.items():
            for moment in MOMENTS:
                for target in targets:
                    if (starter, target, moment) == ("ponder launch", "launcher", "testing"):
                        continue  # all it can see is that the job died: the test is done again
                    yield number, starter, target, moment


def send(number: str, starter: str, target: str, moment: str, folder: Path) -> Cell:
    """Starts a training, sends a signal at its moment, and looks what is there in the end."""
    with started(starter, moment, folder) as job:
        came = job.come_to(moment)
        sent = time.monotonic()
        job.send(target, signal.Signals[number])
        ended = job.wait()
        return _judged(job, (number, starter, target, moment), came, ended, time.monotonic() - sent)


def figures_of(cells: Sequence[Cell]) -> list[Figure]:
    """What was asked for."""
    count = len(cells)
    lost = sum(each.saved < each.reached for each in cells)
    late = sum(not each.ended for each in cells)
    silent = sum(not each.told for each in cells)
    traces = sum(each.traceback for each in cells)
    missed = sum(not each.came for each in cells)
    return [
        Figure(f"cells that lost updates, of {count}", lost, "= 0", lost == 0),
        Figure("cells that did not end", late, "= 0", late == 0),
        Figure("cells without a word", silent, "= 0", silent == 0),
        Figure("cells with a traceback", traces, "= 0", traces == 0),
        Figure("cells that never came to their moment", missed, "= 0", missed == 0),
    ]


def _judged(
    job: Job, which: tuple[str, str, str, str], came: bool, ended: bool, seconds: float
) -> Cell:
    said = job.output.read_text(encoding="utf-8", errors="replace")
    cell = Cell(
        *which,
        came=came,
        ended=ended,
        reached=job.updates(),
        saved=job.saved() if job.updates() else 0,
        told=_WORDS.search(said) is not None,
        traceback=_OURS.search(said) is not None,
        seconds=round(seconds, 1),
    )
    return cell if cell.passes else Cell(**{**asdict(cell), "says": said[-1500:]})


def _kept(rows: Rows, which: tuple[str, str, str, str]) -> Cell | None:
    names = ("signal", "starter", "target", "moment")
    row = rows.find(**dict(zip(names, which, strict=True)))
    return None if row is None else Cell(**{name: row[name] for name in Cell.__dataclass_fields__})


def _measured(rows: Rows, which: tuple[str, str, str, str]) -> Cell:
    with tempfile.TemporaryDirectory() as folder:
        cell = send(*which, Path(folder).resolve())
    rows.add(asdict(cell))
    told = "saved" if cell.passes and cell.reached else "told" if cell.passes else "FAILED"
    print(
        f"{' · '.join(which)}: {told}, update {cell.reached}, saved {cell.saved}, after "
        f"{cell.seconds} s {cell.says}",
        flush=True,
    )
    return cell
