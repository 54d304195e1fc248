"""Who the ranks are, and whether they are still there."""

import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_GRACE = 5.0


@dataclass(frozen=True)
class Member:
    """One rank.

    Args:
        rank: its number.
        host: the machine that it is on.
        pid: its process there.
    """

    rank: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"


class Members:
    """All ranks of a job.

    Args:
        everyone: in order.
        rank: which of them this process is.
    """

    def __init__(self, everyone: Sequence[Member], rank: int):
        self.everyone, self.rank = tuple(everyone), rank
        self._watching = threading.Event()

    def gone(self) -> list[Member]:
        """The ranks on this machine whose process has ended. Of other machines nothing is known here."""
        here = socket.gethostname()
        return [each for each in self.everyone if each.host == here and not _runs(each.pid)]

    def await_gone(self, seconds: float = 2.0) -> list[Member]:
        """The same, looked at until somebody is gone or the time is over: a process that dies closes its connections
        shortly before it has ended."""
        until = time.monotonic() + seconds
        while not (gone := self.gone()) and time.monotonic() < until:
            time.sleep(0.05)
        return gone

    def watch(self, folder: Path) -> None:
        """From now on, a thread looks whether a rank of this machine has died. Most often the next collective fails by
        itself; where it would wait instead (NCCL), this process ends with a message after a grace of five seconds.

        Args:
            folder: of the run, for the message.
        """
        self._watching.set()
        threading.Thread(target=self._watch, args=(folder,), daemon=True).start()

    def stop_watching(self) -> None:
        """From here on ranks may end one after another."""
        self._watching.clear()

    def _watch(self, folder: Path) -> None:
        while self._watching.is_set():
            time.sleep(1.0)
            if self.gone() and self._watching.is_set():
                time.sleep(_GRACE)
                gone = self.gone()
                if self._watching.is_set():
                    end_without(gone, folder)


def end_without(gone: Sequence[Member], folder: Path) -> None:
    """Says which ranks are gone, and ends this process at once: nothing collective can be done any more."""
    names = " and ".join(map(str, gone))
    print(
        f"\nerror: {names} {'is' if len(gone) == 1 else 'are'} gone.\n"
        "  why:  killed, out of memory, or ended by an error of its own (its last lines say so); the others cannot go "
        "on without it.\n"
        f"  mend: go on from the last checkpoint: … --module training.train --resume {folder}; ponder launch "
        "--max-restarts N does so by itself.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(1)


def _runs(pid: int) -> bool:
    """Whether a process of this machine is there and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return not Path("/proc").is_dir()
