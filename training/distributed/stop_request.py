"""Stopping on request: a signal asks, a second request ends at once, and each end has its word."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from training.distributed.launcher_watch import LauncherWatch

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_HAND = 0.8
_ECHO = 5.0
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Standing:
    """What a process that is ended at once says of itself.

    Args:
        doing: what it was doing.
        why: what is lost, and what is not.
        fix: how to go on.
    """

    doing: str
    why: str
    fix: str


STARTING = Standing(
    "starting up",
    "nothing was trained yet; checkpoints that were there are as they were",
    "give the same command again",
)


def insists(number: int, first: int, seconds: float) -> bool:
    """Whether a signal that comes after another is a second request, and no echo of the first.

    Launchers pass on what they are told: deepspeed sends SIGTERM after a SIGINT or SIGTERM that the
    whole process group has got already, torchrun the same signal once more, `timeout` and systemd
    tell the group and its head. A closed terminal (SIGHUP) insists on nothing.

    Args:
        number: the later signal.
        first: the one that asked.
        seconds: between them.
    """
    if number == signal.SIGHUP:
        return False
    if number == signal.SIGINT:
        return first != signal.SIGINT or seconds > _BY_HAND
    return seconds > _ECHO


class StopRequest:
    """While it is entered, SIGINT, SIGTERM and SIGHUP (a closed terminal) are heard.

    From `training` on they set a flag that the loop reads between updates, and a second request
    ends the process at once; before it, and from `finishing` on, the first one does, and says what
    stands. A SIGHUP that is ignored, as under nohup, stays so. A launcher that has gone asks as a
    signal does.

    Outside of the main thread Python lets nobody listen to signals; there an event may ask.

    Args:
        launcher: what started this process, as it was at the start; None where nobody has to stay.
        event: asks to stop when it is set; None where there is none.
        standing: what to say while nothing is trained. None: signals outside of `training` are
            whoever's they were, as in a notebook.
    """

    def __init__(
        self,
        launcher: LauncherWatch | None = None,
        event: threading.Event | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.signal_name: str | None = None
        self.launcher = launcher or LauncherWatch(None, None)
        self.standing = standing
        self._event = event
        self._training = False
        self._heard_at = 0.0
        self._before: dict[signal.Signals, object] = {}
        self._ending = threading.Lock()
        self._ends_in: int | None = None
        self._guard: _Guard | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal has come, the launcher gone, or the event been set."""
        return self.why is not None

    @property
    def why(self) -> str | None:
        """What asks, in words; None while nothing does."""
        if self._event is not None and self._event.is_set():
            return "being asked to"
        return self.signal_name or self.launcher.gone

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        heard = [
            number
            for number in _SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        ]
        self._before = {number: signal.signal(number, self._heard) for number in heard}
        if self.standing is not None:
            self._guard = _Guard(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._guard is not None:
            self._guard.stop()
            self._guard = None
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before = {}

    @contextlib.contextmanager
    def training(self) -> Iterator["StopRequest"]:
        """From here on signals ask, and the loop saves: until `finishing`, or until the end of the
        context where nobody had entered this request before."""
        self._training = True
        with contextlib.nullcontext() if self._before else self:
            yield self

    def finishing(self, standing: Standing) -> None:
        """All that was trained is saved: from here on a signal ends a program at once, as does one
        that came too late for the loop.

        Args:
            standing: what is said then.
        """
        if self.standing is None:
            return
        self.standing = standing
        self._training = False
        if self.signal_name is not None:
            self.end(f"by {self.signal_name}", signal.Signals[self.signal_name])

    @property
    def waits(self) -> bool:
        """Whether an end now would lose work: the loop hears of a request, and saves."""
        return self._training

    def end(self, how: str, number: int = signal.SIGTERM) -> NoReturn:
        """Ends this process with a word, once, whichever thread it comes from.

        Args:
            how: it was stopped, in words.
            number: of the signal, for the exit code.
        """
        if not self._ending.acquire(blocking=False):
            while True:  # another thread is about to
                time.sleep(_LOOK_EVERY)
        self._ends_in = threading.get_ident()
        standing = self.standing or STARTING
        gone = ", ".join(map(str, self.launcher.missing()))
        before = f"; rank {gone} had ended before" if gone else ""
        rank = os.environ.get("RANK")
        who = "" if rank is None else f"rank {rank}: "
        _tell(
            f"{who}stopped {how} while {standing.doing}{before}.\n"
            f"  why:  {standing.why}.\n  fix:  {standing.fix}"
        )
        os._exit(128 + number)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._ends_in == threading.get_ident():
            return  # it has interrupted the end itself, which would wait for itself
        if not self._training:
            if self.standing is not None:
                self.end(f"by {name}", number)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.signal_name is None:
            self.signal_name = name
            self._heard_at = time.monotonic()
            if os.environ.get("RANK", "0") == "0":
                _tell(f"{name}: stopping after this update, and saving; once more ends at once")
        elif insists(number, signal.Signals[self.signal_name], time.monotonic() - self._heard_at):
            _tell(
                f"{name} after {self.signal_name}: ended at once; the last whole checkpoint is the "
                "one to go on from"
            )
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class _Guard:
    """A thread that ends the process where the main thread can't: Python's handlers wait until a
    library's call returns, and ranks that meet wait for minutes in one.

    Args:
        request: knows whether an end would lose work.
    """

    def __init__(self, request: StopRequest):
        self._request = request
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        os.set_blocking(self._reads, False)
        self._before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        signal.set_wakeup_fd(self._before)
        self._stopped.set()
        self._thread.join()
        os.close(self._reads)
        os.close(self._writes)

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY):
            with contextlib.suppress(BlockingIOError):
                for number in os.read(self._reads, 64):
                    # Whoever has taken the signal for himself answers it.
                    mine = signal.getsignal(number) == self._request._heard
                    if number in _SIGNALS and mine and not self._request.waits:
                        self._request.end(f"by {signal.Signals(number).name}", number)
            if not self._request.waits and (gone := self._request.launcher.gone):
                self._request.end(f"as {gone}")


_program: StopRequest | None = None


@contextlib.contextmanager
def heard_from_the_start() -> Iterator[None]:
    """Hears signals for the whole of a program, from before it imports anything large."""
    global _program
    _program = StopRequest(LauncherWatch.of_this_process(), standing=STARTING)
    try:
        with _program:
            yield
    finally:
        _program = None


def of_this_program(event: threading.Event | None = None) -> StopRequest:
    """The one that hears from the start, else a new one that hears while training.

    Args:
        event: see `StopRequest`.
    """
    if _program is not None and event is None:
        return _program
    return StopRequest(LauncherWatch.of_this_process(), event)


def _tell(text: str) -> None:
    """Onto the error stream, past Python's buffers: a handler may have interrupted their writer."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())
