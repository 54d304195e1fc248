"""Signs of life: who falls silent is named, who leaves is not, and a place that has gone is
noticed."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import psutil
import pytest
from conftest import free_port
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from training.distributed.heartbeat import Heartbeat, say_present
from training.distributed.network_interface import choose_interface, interface_to

LIMIT = 1.0


class Meeting:
    """Some ranks as threads, and the place where they met."""

    def __init__(self, world: int):
        self.world, self.port = world, free_port()
        self.store: TCPStore | None = self.connect(True)
        for rank in range(world):
            say_present(self.store, rank)
        self.ranks: dict[int, Heartbeat] = {}
        self.told: dict[int, list[int]] = {}

    def connect(self, serves: bool = False) -> TCPStore:
        limit = timedelta(seconds=20)
        return TCPStore("127.0.0.1", self.port, None, serves, limit, wait_for_workers=False)

    def start(self, rank: int) -> None:
        self.ranks[rank] = Heartbeat(self.connect, rank, self.world, LIMIT)
        self.ranks[rank].start(lambda lost: self.told.__setitem__(rank, list(lost)))

    def end(self) -> None:
        for rank in self.ranks.values():
            rank.leave()

    def wait(self, seconds: float, ranks: int) -> None:
        until = time.monotonic() + seconds
        while len(self.told) < ranks and time.monotonic() < until:
            time.sleep(0.05)


@pytest.fixture
def meet() -> Iterator[Callable[[int], Meeting]]:
    made: list[Meeting] = []

    def make(world: int) -> Meeting:
        made.append(Meeting(world))
        return made[-1]

    yield make
    for meeting in made:
        meeting.end()


def test_who_falls_silent_is_named_everywhere_and_who_leaves_is_not(meet) -> None:
    meeting = meet(4)
    for rank in range(3):
        meeting.start(rank)
    assert meeting.store is not None
    for beat in range(1, 6):
        meeting.store.set("beat/3", str(beat))
        time.sleep(LIMIT / 10)
    meeting.ranks[2].leave()
    assert meeting.store.get("beat/2") == b"left", "written before a process could end"
    time.sleep(LIMIT / 2)
    assert meeting.told == {}, "nobody is named before the time"
    meeting.wait(30, 2)
    assert meeting.told == {0: [3], 1: [3]}


def test_a_failed_collective_shortens_the_wait(meet) -> None:
    meeting = meet(3)
    for rank in (0, 1):
        meeting.start(rank)
    assert meeting.store is not None
    meeting.store.set("beat/2", "1")
    time.sleep(LIMIT / 5)
    assert meeting.ranks[1].suspect() == [2]
    meeting.wait(10, 2)
    assert meeting.told == {0: [2], 1: [2]}


def test_living_ranks_are_not_suspected_for_long(meet) -> None:
    meeting = meet(2)
    for rank in (0, 1):
        meeting.start(rank)
    time.sleep(LIMIT / 5)
    assert meeting.ranks[1].suspect() == [] and meeting.told == {}


def test_a_place_that_has_gone_is_noticed(meet) -> None:
    meeting = meet(2)
    meeting.start(1)
    time.sleep(LIMIT / 5)
    meeting.store = None  # what served is collected
    until = time.monotonic() + 10
    while not meeting.ranks[1].closed and time.monotonic() < until:
        time.sleep(0.05)
    assert meeting.ranks[1].closed and meeting.told == {}


def test_a_place_that_does_not_answer_is_rank_0_lost() -> None:
    """What a pulled cable does to the side that has no rank 0: the question never returns."""
    never = threading.Event()

    def cut_off() -> TCPStore:
        never.wait(20)
        raise RuntimeError("too late")

    told: list[int] = []
    Heartbeat(cut_off, 1, 2, LIMIT).start(told.extend)
    until = time.monotonic() + 10
    while not told and time.monotonic() < until:
        time.sleep(0.05)
    never.set()
    assert told == [0]


def test_ranks_talk_through_the_interface_that_leads_to_where_they_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "GLOO_SOCKET_IFNAME", "set, so that what is chosen below is taken back at the end"
    )
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "mine")
    own = next(
        name
        for name, found in psutil.net_if_addrs().items()
        if any(a.address == "127.0.0.1" for a in found)
    )
    assert interface_to("127.0.0.1") == interface_to("127.0.0.7") == own
    assert interface_to("no.such.machine.invalid") is None
    assert choose_interface("localhost") == own
    assert os.environ["GLOO_SOCKET_IFNAME"] == own and os.environ["NCCL_SOCKET_IFNAME"] == "mine"
