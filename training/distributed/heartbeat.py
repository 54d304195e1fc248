"""Signs of life between machines: ranks beat where they met, and one that falls silent is named on
all of them."""

import atexit
import json
import threading
import time
from collections.abc import Callable, Sequence

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

_BEATS = 20
"""In the time after which silence counts as loss."""
_SHORT = 6
"""How many of these are silence when a collective has failed already."""
_LEFT = "left"


def say_present(store: Store, rank: int) -> None:
    """A rank's first sign of life, before ranks have met: each has one when the others look."""
    store.set(f"beat/{rank}", "0")


class Heartbeat:
    """A pulled cable, a machine that lost its power and a process that is stopped close no
    connection: whoever waits for them in a collective waits until its time limit. So every rank
        counts up a number at the place where the ranks
    met. Rank 0 compares them, and writes down who is silent; the others read that, and notice
    themselves when the place does not answer. So a beat costs a rank two short messages, whatever
    the number of ranks.

    What a rank has waited between two beats of its own counts as two beats at most, so that one
    that was stopped itself accuses nobody when it goes on.

    Args:
        connect: makes a connection of its own to the place: one that is cut off may never return
            from a question.
        rank: of this process.
        world: how many there are.
        limit: seconds without a sign of life after which a rank counts as lost.
    """

    def __init__(self, connect: Callable[[], Store], rank: int, world: int, limit: float):
        self._connect = connect
        self.rank = rank
        self.world = world
        self.limit = limit
        self._interval = limit / _BEATS
        self._leaving = threading.Event()
        self._suspicious = threading.Event()
        self._closed = threading.Event()
        self._beating: threading.Thread | None = None
        self._answers = 0
        self._lost: list[int] = []

    @property
    def lost(self) -> list[int]:
        """Who is silent, as far as is known here."""
        return self._lost

    @property
    def closed(self) -> bool:
        """The place where the ranks met has gone: the process that kept it has ended."""
        return self._closed.is_set()

    def start(self, on_lost: Callable[[Sequence[int]], None]) -> None:
        """From now on this rank beats, and is told once who is lost, in a thread of its own."""
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        atexit.register(
            self.leave
        )  # a thread that is inside the store when Python ends would abort the process
        threading.Thread(target=self._watch, args=(on_lost,), daemon=True).start()

    def leave(self) -> None:
        """From here on this rank's silence means nothing; the others know it before the process
        ends."""
        self._leaving.set()
        if self._beating is not None:
            self._beating.join(self.limit / 4)

    def suspect(self) -> list[int]:
        """After a collective has failed: waits a few beats for who may have caused it; gives who is
        silent."""
        if self._beating is None:
            return []
        self._suspicious.set()
        until = time.monotonic() + (_SHORT + 4) * self._interval
        while not self._lost and not self.closed and time.monotonic() < until:
            time.sleep(self._interval / 4)
        return self._lost

    def _beat(self) -> None:
        try:
            store = self._connect()
            number = 0
            silent = {rank: 0.0 for rank in range(self.world) if rank != self.rank}
            seen = dict.fromkeys(silent, "0")
            clock = _Clock(self._interval)
            while not self._leaving.is_set():
                number += 1
                store.set(f"beat/{self.rank}", str(number))
                if self._suspicious.is_set():
                    store.set("suspicion", "")
                if self.rank == 0:
                    self._judge(store, seen, silent, clock.passed())
                elif store.check(["lost"]):
                    self._lost = json.loads(store.get("lost"))
                self._answers += 1
                self._leaving.wait(self._interval)
            store.set(f"beat/{self.rank}", _LEFT)
        except RuntimeError:
            self._closed.set()
        except OSError:
            return  # no way there; `_watch` sees that no answers come

    def _judge(
        self, store: Store, seen: dict[int, str], silent: dict[int, float], passed: float
    ) -> None:
        """Adds up how long each other rank has been silent; afterwards `_lost` holds who was so for
        too long."""
        most = _SHORT * self._interval if store.check(["suspicion"]) else self.limit
        told = store.multi_get([f"beat/{rank}" for rank in seen])
        for rank, value in zip(seen, told, strict=True):
            now = value.decode()
            moved = now != seen[rank] or now == _LEFT
            seen[rank], silent[rank] = now, 0.0 if moved else silent[rank] + passed
        lost = [rank for rank, seconds in silent.items() if seconds > most]
        if lost and not self._lost:
            store.set("lost", json.dumps(lost))
            self._lost = lost

    def _watch(self, on_lost: Callable[[Sequence[int]], None]) -> None:
        answers = -1
        silent = 0.0
        clock = _Clock(self._interval)
        while not self._leaving.is_set() and not self.closed:
            time.sleep(self._interval)
            passed = clock.passed()
            silent = 0.0 if self._answers != answers else silent + passed
            answers = self._answers
            if silent > self.limit and not self._lost:
                self._lost = [0]
            if self._lost and not self._leaving.is_set():
                if self.rank == 0 and len(self._lost) < self.world - 1:
                    time.sleep(4 * self._interval)  # the others read it here
                on_lost(self._lost)
                return


class _Clock:
    """Tells what has passed since it was last asked, two beats at most."""

    def __init__(self, interval: float):
        self._most = 2 * interval
        self._last = time.monotonic()

    def passed(self) -> float:
        now = time.monotonic()
        passed = min(self._most, now - self._last)
        self._last = now
        return passed
