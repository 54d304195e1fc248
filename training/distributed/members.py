"""Who the ranks are, and whether they are still there."""

import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import distributed as dist

from training.distributed.heartbeat import Heartbeat
from training.distributed.last_sign import LAST_SIGN

_GRACE = 5.0
_TOGETHER = 0.3
"""Ranks that are killed together end within it."""
_SEEN = 2.0
"""Ranks that are there find one that has ended within it."""
_FROZEN = 10.0
"""Seconds without an answer after which it is said who is stopped."""
_SLOW = 60.0
"""The same where nobody is: it may be a long update."""
_STATES = {
    "T": "is stopped",
    "t": "is held by a debugger",
    "D": "waits for a disk",
    "R": "computes",
    "S": "waits or sleeps",
}


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
        self._gone: list[Member] = []

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
        """The ranks on this machine whose process had ended when the first was found so: those that
        end afterwards do because of it. Of other machines `heartbeat` knows."""
        if not self._gone and any(_state(each.pid) is None for each in self._here()):
            time.sleep(_TOGETHER)
            self._gone = [each for each in self._here() if _state(each.pid) is None]
        return self._gone

    def stopped(self) -> list[Member]:
        """The ranks on this machine that are stopped (SIGSTOP, Ctrl-Z, a debugger), and answer
        nobody."""
        return [each for each in self._here() if _state(each.pid) in ("T", "t")]

    def _here(self) -> list[Member]:
        here = this_machine()
        return [each for each in self.everyone if each.machine == here]

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

    def watch(self) -> None:
        """From now on, a thread looks whether a rank of this machine has died or is stopped. Most
        often the next collective fails by itself; where it would wait instead (NCCL), this process
        ends with a message after a grace of five seconds. A rank that is stopped may go on: that
        it is waited for is said, and again when it goes on."""
        self._watching.set()
        threading.Thread(target=self._watch, daemon=True).start()

    def train_in(self, folder: Path) -> None:
        """From now on messages name this run folder to go on from."""
        self._folder = folder

    def end_failed(self, error: Exception) -> None:
        """After a collective has failed: says who is gone, stopped or silent, and ends this
        process. Returns where the error is none of a collective's.

        Args:
            error: what was raised.
        """
        if gone := self.await_gone():
            end_without(gone, self._folder)
        says = str(error)
        if isinstance(error, dist.DistError) or "gloo" in says or "NCCL" in says:
            end_waiting(self._waited_for(), self._folder, says)

    def stop_watching(self) -> None:
        """From here on ranks may end one after another."""
        self._watching.clear()
        if self._heartbeat is not None:
            self._heartbeat.leave()

    def _watch(self) -> None:
        told: list[Member] = []
        slow = False
        while self._watching.is_set():
            time.sleep(1.0)
            closed = self._heartbeat is not None and self._heartbeat.closed
            if (self.gone() or closed) and self._watching.is_set():
                time.sleep(_GRACE)
                gone = self.gone() or [self.everyone[0]]  # it keeps the place where all met
                if self._watching.is_set():
                    end_without(gone, self._folder)
            waited = LAST_SIGN.ago
            stopped = self.stopped() if waited > _FROZEN else []
            if stopped != told and self._first_here():
                _say_stopped(stopped, told)
                told = stopped
            is_slow = waited > max(_SLOW, 5 * LAST_SIGN.longest) and not stopped
            if is_slow and not slow and self._first_here():
                _note(f"no rank has answered for {waited:.0f} s: {self._waited_for()}")
            slow = is_slow

    def _first_here(self) -> bool:
        """Whether this is the rank of its machine that speaks: the first that can."""
        stopped = self.stopped()
        return (
            self._here()[0].rank == self.rank
            or next(each.rank for each in self._here() if each not in stopped) == self.rank
        )

    def _waited_for(self) -> str:
        """Who is in what state, and what all were doing."""
        others = [each for each in self._here() if each.rank != self.rank][:8]
        states = "; ".join(
            f"{each} {_STATES.get(_state(each.pid) or '', 'is sleeping')}" for each in others
        )
        return f"{LAST_SIGN.doing}, since {_clock(LAST_SIGN.ago)}; {states}"


def _say_stopped(stopped: Sequence[Member], before: Sequence[Member]) -> None:
    if not stopped:
        _note(f"{_names(before)} {'goes' if len(before) == 1 else 'go'} on")
        return
    pids = " ".join(str(each.pid) for each in stopped)
    _note(
        f"{_names(stopped)} {'is' if len(stopped) == 1 else 'are'} stopped (SIGSTOP, Ctrl-Z or a "
        f"debugger) and last answered at {_clock(LAST_SIGN.ago)}, before {LAST_SIGN.doing}; the "
        f"others wait, at most --timeout. To have it go on: kill -CONT {pids}"
    )


def _note(text: str) -> None:
    print(f"\nwarning: {text}", file=sys.stderr, flush=True)


def _clock(ago: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time.time() - ago))


def end_without(gone: Sequence[Member], folder: Path | None) -> None:
    """Says which ranks are gone, and ends this process at once: nothing collective can be done any
    more."""
    _end(
        f"{_names(gone)} {'is' if len(gone) == 1 else 'are'} gone",
        "killed, out of memory, or ended by an error of its own (its last lines say so); the "
        f"others cannot go on without it; they were at {LAST_SIGN.doing}",
        folder,
    )


def end_waiting(waited_for: str, folder: Path | None, error: str) -> None:
    """The same where all are there, and one did not answer in time.

    Args:
        waited_for: what all were doing, since when, and who is in what state.
        folder: of the run; None before there is one.
        error: what the collective said.
    """
    first = error.strip().splitlines()[0][:160] if error.strip() else "it failed"
    _end(
        f"a rank has not answered: {waited_for}",
        f"a process that is stopped or hangs, or --timeout is too short for an update ({first})",
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
    kept = [] if folder is None else sorted((folder / "checkpoints").glob("update-*"))
    last = f" ({kept[-1].name})" if kept else ""
    fix = (
        "nothing was trained yet: start again when it is back."
        if folder is None
        else f"go on from the last checkpoint{last}: … --module training.train --resume {folder}; "
        "ponder launch --max-restarts N does so by itself."
    )
    print(f"\nerror: {what}.\n  why:  {why}.\n  fix:  {fix}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    time.sleep(_SEEN)  # the others find this process there, and blame whom it blames
    os._exit(1)


def _state(pid: int) -> str | None:
    """The letter by which the kernel says what a process of this machine does; None where it has
    ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "S"
    status = Path(f"/proc/{pid}/stat")
    try:
        letter = status.read_text().rpartition(")")[2].split()[0]
        return None if letter in ("Z", "X") else letter
    except OSError:
        return None if Path("/proc").is_dir() else "S"
