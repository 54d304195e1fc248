"""Stopping on request: the first signal asks, the second ends at once; a launcher that has gone
asks, too."""

import os
import signal
import threading
import time
from types import FrameType

from training.distributed.launcher_watch import LauncherWatch

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ECHO = 2.0


class StopRequest:
    """While it is entered, SIGINT, SIGTERM and SIGHUP (a closed terminal) set a flag that the loop
    reads between updates; a second one ends the process at once.

    A SIGTERM within two seconds of a Ctrl-C is a launcher passing it on, and does not count as a
    second one. A SIGHUP that is ignored, as under nohup, stays so. A launcher that has gone asks to
    stop as a signal does.

    Outside of the main thread Python lets nobody listen to signals; there an event may ask.

    Args:
        launcher: what started this process, as it was at the start; None where nobody has to stay.
        event: asks to stop when it is set; None where there is none.
    """

    def __init__(
        self, launcher: LauncherWatch | None = None, event: threading.Event | None = None
    ) -> None:
        self.signal_name: str | None = None
        self._launcher = launcher or LauncherWatch(None, None)
        self._event = event
        self._heard_at = 0.0
        self._before: dict[signal.Signals, object] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has come, the launcher gone, or the event been set."""
        return self.why is not None

    @property
    def why(self) -> str | None:
        """What asks, in words; None while nothing does."""
        if self._event is not None and self._event.is_set():
            return "being asked to"
        return self.signal_name or self._launcher.gone

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            return self
        heard = [
            number
            for number in _SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        ]
        self._before = {number: signal.signal(number, self._heard) for number in heard}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _heard(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.signal_name is None:
            self.signal_name = name
            self._heard_at = time.monotonic()
        elif name == self.signal_name or time.monotonic() - self._heard_at > _ECHO:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
