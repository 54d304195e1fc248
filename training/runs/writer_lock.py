"""Who writes into a run folder: one training at a time, whatever machine it runs on.

The lock is a file in the folder that says who holds it. It is made by linking a finished file to
its name, which succeeds for one alone on file systems that are shared, too, and its time is set
again every ten seconds. A holder on this machine is gone when its process is; one on another
machine when the file's time has stood still for a minute."""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from halting.errors import UsageError
from training.checkpoints import checkpoint
from training.distributed import collectives
from training.distributed.members import this_machine

FILE = ".lock"
_BEAT = 10.0  # seconds between two signs of life
_SILENT = 60.0  # seconds without one after which a holder on another machine is gone
_LOOK = 0.25
_ABANDONED = 30.0  # seconds: taking a lock over takes milliseconds
_held_here: set[str] = set()
"""Tokens of the locks that this process holds, or is about to."""
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Holder:
    """A process that trains in a run folder.

    Args:
        host: name of its machine.
        machine: what tells that machine, or container, from others of the same name.
        pid: its process there.
        started: when that process began, as its machine counts.
        since: when it took the folder, for people.
        token: tells this lock from any other.
    """

    host: str
    machine: str
    pid: int
    started: float | None
    since: str
    token: str

    @classmethod
    def this_process(cls) -> "Holder":
        """This one, with a lock of its own."""
        return cls(
            socket.gethostname(),
            this_machine(),
            os.getpid(),
            started(os.getpid()),
            datetime.now().astimezone().isoformat(timespec="seconds"),
            uuid.uuid4().hex,
        )

    @classmethod
    def read(cls, path: Path) -> "Holder | None":
        """Who holds a lock; None where that cannot be read.

        Raises:
            FileNotFoundError: where there is none.
        """
        try:
            about = json.loads(path.read_bytes()[:10_000])
            return cls(**{name: about[name] for name in cls.__dataclass_fields__})
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, so that one can look whether it runs."""
        return self.machine == this_machine()

    @property
    def runs(self) -> bool:
        """Whether that process of this machine is still there: the same one, not another that has
        got its number, and in this process a training that has not ended."""
        if self.pid == os.getpid():
            return self.token in _held_here
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, whose start may be hidden
            return started(self.pid) in (None, self.started)
        return started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


def started(pid: int) -> float | None:
    """When a process of this machine began: ticks since the machine did, which no change of its
    clock moves, or seconds since 1970 where it does not tell. None for one that has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if after_name[0] in ("Z", "X") else float(after_name[19])
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


class WriterLock:
    """The lock of a run folder, held by rank 0 for all ranks of a launch.

    Args:
        folder: of the run.
        beat: seconds between two signs of life.
        silent: seconds without one after which a holder on another machine is gone.
    """

    def __init__(self, folder: Path, beat: float = _BEAT, silent: float = _SILENT):
        self.folder = folder
        self.path = folder / FILE
        self._beat = beat
        self._silent = silent
        self._own = Holder.this_process()
        self._held = False
        self._leaving = threading.Event()
        self._signs = threading.Thread(target=self._give_signs, daemon=True)

    def acquire(self, say: Callable[[str], None] = lambda text: None) -> None:
        """Takes the lock, or that of a holder that is gone.

        Args:
            say: told when one on another machine has to be waited for.

        Raises:
            UsageError: for a run that is trained by somebody else, and for a folder that cannot be
                written to.
        """
        _held_here.add(self._own.token)
        try:
            while not self._link():
                self._take_over_if_gone(say)
        except UsageError:
            _held_here.discard(self._own.token)
            raise
        except OSError as error:
            _held_here.discard(self._own.token)
            raise UsageError(
                f"{self.folder} cannot be written to: {error.strerror}.",
                "A training keeps figures and checkpoints there, and a file that says who writes.",
                "Bring the folder back, or make it writable; its weights go on elsewhere by "
                f"--start-from {self.folder}.",
            ) from error
        self._held = True
        self._signs.start()

    def check(self) -> None:
        """Checks that nobody has taken the folder; called by all ranks, before they write.

        Raises:
            UsageError: on all ranks, where somebody has.
        """
        taken = self._taken_by() if self._held else None
        if (taken := collectives.broadcast_object(taken)) is not None:
            raise UsageError(
                f"{self.folder} was taken over by {taken}.",
                "This training gave no sign of life for so long that it counted as gone (it was "
                "stopped, or cut from the file system), and two would mix in one folder.",
                "Let that one train on; what this one did since its last checkpoint is done again "
                "there.",
            )

    def release(self) -> None:
        """Gives the folder free; nothing is done where it is not held, or somebody else's."""
        if self._held:
            self._held = False
            _held_here.discard(self._own.token)
            self._leaving.set()
            self._signs.join(_BEAT)  # else it could put back what is removed here
            with contextlib.suppress(OSError):
                if self._is_own():
                    self.path.unlink()

    def _link(self) -> bool:
        """Puts the lock in its place; False where there is one."""
        beside = self.path.with_name(f"{FILE}-{self._own.token}")
        text = json.dumps(asdict(self._own), indent=1) + "\n"
        try:
            beside.write_text(text, encoding="utf-8")
            try:
                os.link(beside, self.path)
            except FileExistsError:  # NFS says so as well where it has done it and was asked twice
                return beside.stat().st_nlink == 2
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self._create(text)
            return True
        finally:
            beside.unlink(missing_ok=True)

    def _create(self, text: str) -> bool:
        """The same on a file system without links."""
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return True

    def _take_over_if_gone(self, say: Callable[[str], None]) -> None:
        """Removes the lock of a holder that is gone.

        Raises:
            UsageError: for one that is there.
        """
        with contextlib.suppress(FileNotFoundError):  # it has just been given free
            holder = Holder.read(self.path)
            if holder is not None and holder.is_here:
                if holder.runs:
                    raise _trained_by(self.folder, holder)
            else:
                self._await_silence(holder, say)
            self._remove(holder)

    def _await_silence(self, holder: Holder | None, say: Callable[[str], None]) -> None:
        """Looks at the lock of another machine until a sign of life comes, or has stayed away for
        long enough. Ages are by the file system's own clock.

        Raises:
            UsageError: for one that is there.
        """
        seen = self.path.stat().st_mtime_ns
        missing = self._silent - (self._now() - seen / 1e9)
        if missing <= 0:
            return
        who = holder or "a process that its lock does not name"
        say(f"{self.folder} is held by {who}; looking up to {missing:.0f} s for a sign of life")
        until = time.monotonic() + missing
        while time.monotonic() < until:
            time.sleep(_LOOK)
            if self.path.stat().st_mtime_ns != seen:
                raise _trained_by(self.folder, holder)

    def _remove(self, gone: Holder | None) -> None:
        """Removes the lock of one that is gone, unless it has changed. A second file sees to it
        that one alone does so at a time: else the lock that another has just got could be taken for
        the old one."""
        guard = self.path.with_name(f"{FILE}-taking")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            if self._now() - guard.stat().st_mtime > _ABANDONED:
                guard.unlink(missing_ok=True)
            time.sleep(_LOOK)
            return
        try:
            if Holder.read(self.path) == gone:
                self.path.unlink()
        finally:
            guard.unlink(missing_ok=True)

    def _now(self) -> float:
        """The time by the file system's clock."""
        probe = self.path.with_name(f"{FILE}-{self._own.token}")
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        holder = Holder.read(self.path)
        return holder is not None and holder.token == self._own.token

    def _taken_by(self) -> str | None:
        """Who holds the folder now in this process's place; None where it still does. A lock that
        was removed is put back: who did so thought that this process was gone."""
        with contextlib.suppress(OSError):
            for _ in range(2):
                try:
                    holder = Holder.read(self.path)
                except FileNotFoundError:
                    if self._link():
                        return None
                    continue
                return None if holder is None or holder.token == self._own.token else str(holder)
        return None  # whether a file system answers is for those to find out who write to it

    def _give_signs(self) -> None:
        while not self._leaving.wait(self._beat):
            with contextlib.suppress(OSError):
                if self._taken_by() is not None:
                    return
                os.utime(self.path)


def hold(folder: Path, say: Callable[[str], None]) -> WriterLock:
    """Takes the lock of a run folder for all ranks, which call it together.

    Args:
        folder: of the run.
        say: told when somebody has to be waited for.

    Raises:
        UsageError: on every rank, as `WriterLock.acquire`.
    """
    lock = WriterLock(folder)
    wrong = None
    if collectives.rank() == 0:
        try:
            lock.acquire(say)
        except UsageError as error:
            wrong = (error.what, error.why, error.write)
    if (wrong := collectives.broadcast_object(wrong)) is not None:
        raise UsageError(*wrong)
    return lock


def _trained_by(folder: Path, holder: Holder | None) -> UsageError:
    who = "somebody" if holder is None else f"process {holder.pid} on {holder.host}"
    if holder is not None and holder.pid == os.getpid() and holder.is_here:
        who = "this process"
    since = "" if holder is None else f" since {holder.since}"
    kept = checkpoint.found(folder / "checkpoints")
    other = f"--start-from {folder}" if kept else "another --name"
    stopped = (
        ""
        if holder is None or not holder.is_here or holder.pid == os.getpid()
        else f" (kill {holder.pid} has it save and end; if it is stopped, kill -CONT first)"
    )
    return UsageError(
        f"{folder} is being trained by {who}{since}.",
        "Two trainings in one folder would mix their figures, and each would remove the other's "
        "checkpoints.",
        f"Wait for its end{stopped}, or train elsewhere with {other}.",
    )
