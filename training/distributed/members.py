"""Who the ranks are, and whether they are still there."""

import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.distributed.heartbeat import Heartbeat

_GRACE = 5.0


def this_machine() -> str:
    """Tells machines, and containers with processes of their own, apart: many have the same
    name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink(
            "/proc/self/ns/pid"
        )
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True)
class Member:
    """One rank.

    Args:
        rank: its number.
        host: the machine that it is on.
        pid: its process there.
        machine: what tells that machine from others of the same name.
    """

    rank: int
    host: str
    pid: int
    machine: str = field(default_factory=this_machine)

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"


class Members:
    """All ranks of a job.

    Args:
        everyone: in order.
        rank: which of them this process is.
        heartbeat: signs of life between machines; None where nobody listens for them.
    """

    def __init__(self, everyone: Sequence[Member], rank: int, heartbeat: Heartbeat | None = None):
        self.everyone = tuple(everyone)
        self.rank = rank
        several = len({(each.host, each.machine) for each in everyone}) > 1
        self._heartbeat = heartbeat if several else None
        self._watching = threading.Event()
        self._folder: Path | None = None

    def listen(self) -> None:
        """From now on ranks of several machines give signs of life, and this process ends when
        another's stay away."""
        if self._heartbeat is not None:
            limit = self._heartbeat.limit
            self._heartbeat.start(
                lambda lost: end_cut_off(
                    [self.everyone[rank] for rank in lost], self._folder, limit
                )
            )

    def gone(self) -> list[Member]:
        """The ranks on this machine whose process has ended. Of other machines `heartbeat`
        knows."""
        here = this_machine()
        return [each for each in self.everyone if each.machine == here and not _runs(each.pid)]

    def await_gone(self, seconds: float = 2.0) -> list[Member]:
        """After a collective has failed: the same, looked at until somebody is gone or the time is
        over, for a process that dies closes its connections shortly before it has ended; then those
        of other machines that are silent."""
        until = time.monotonic() + seconds
        while not (gone := self.gone()) and time.monotonic() < until:
            time.sleep(0.05)
        if gone or self._heartbeat is None:
            return gone
        return [self.everyone[rank] for rank in self._heartbeat.suspect()]

    def watch(self, folder: Path) -> None:
        """From now on, a thread looks whether a rank of this machine has died. Most often the next
        collective fails by itself; where it would wait instead (NCCL), this process ends with a
        message after a grace of five seconds.

        Args:
            folder: of the run, for the message.
        """
        self._folder = folder
        self._watching.set()
        threading.Thread(target=self._watch, args=(folder,), daemon=True).start()

    def stop_watching(self) -> None:
        """From here on ranks may end one after another."""
        self._watching.clear()
        if self._heartbeat is not None:
            self._heartbeat.leave()

    def _watch(self, folder: Path) -> None:
        while self._watching.is_set():
            time.sleep(1.0)
            closed = self._heartbeat is not None and self._heartbeat.closed
            if (self.gone() or closed) and self._watching.is_set():
                time.sleep(_GRACE)
                gone = self.gone() or [self.everyone[0]]  # it keeps the place where all met
                if self._watching.is_set():
                    end_without(gone, folder)


def end_without(gone: Sequence[Member], folder: Path) -> None:
    """Says which ranks are gone, and ends this process at once: nothing collective can be done any
    more."""
    _end(
        f"{_names(gone)} {'is' if len(gone) == 1 else 'are'} gone",
        "killed, out of memory, or ended by an error of its own (its last lines say so); the "
        "others cannot go on without it",
        folder,
    )


def end_cut_off(lost: Sequence[Member], folder: Path | None, seconds: float) -> None:
    """The same for ranks of other machines that give no sign of life; `folder` is None before there
    is a run."""
    _end(
        f"{_names(lost)} {'has' if len(lost) == 1 else 'have'} given no sign of life for "
        f"{seconds:g} s",
        "the machine is off, or cut from the network, or its process is stopped; the others would "
        "wait for it until --timeout",
        folder,
    )


def _names(members: Sequence[Member]) -> str:
    shown = " and ".join(map(str, members[:8]))
    return f"{shown} and {len(members) - 8} more" if len(members) > 8 else shown


def _end(what: str, why: str, folder: Path | None) -> None:
    fix = (
        "nothing was trained yet: start again when it is back."
        if folder is None
        else f"go on from the last checkpoint: … --module training.train --resume {folder}; ponder "
        "launch --max-restarts N does so by itself."
    )
    print(f"\nerror: {what}.\n  why:  {why}.\n  fix:  {fix}", file=sys.stderr, flush=True)
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
