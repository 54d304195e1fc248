"""How ranks meet: each says who it is and what it is about to run; nobody starts before all
agree."""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from halting.errors import UsageError
from training.distributed.heartbeat import Heartbeat, say_present
from training.distributed.members import Member, Members, this_machine

_LOOK_EVERY = 0.2
_SAY_EVERY = 10.0
_KNOCK = _LINGER = 5.0


@dataclass(frozen=True)
class Place:
    """A rank's place among the others, and where they meet.

    Args:
        rank: its number.
        world: how many there are.
        address, port: where rank 0 listens.
        hosted: somebody else listens there instead: torchrun does, as long as its ranks run.
    """

    rank: int
    world: int
    address: str
    port: int
    hosted: bool = False

    @staticmethod
    def from_environment() -> "Place":
        """As launchers tell it."""
        told = os.environ
        hosted = told.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return Place(
            int(told["RANK"]),
            int(told["WORLD_SIZE"]),
            told["MASTER_ADDR"],
            int(told["MASTER_PORT"]),
            hosted,
        )

    def __str__(self) -> str:
        return f"rank {self.rank} on {socket.gethostname()}"


def meet(
    place: Place, facts: Mapping[str, str], timeout: timedelta, lost_after: float = 20.0
) -> tuple[Store, Members]:
    """Waits until all ranks are there and compares what they are about to run; gives what a process
    group is made from, and who they are. What is being waited for is said on rank 0's screen every
    ten seconds, on another's while it cannot reach rank 0.

    Args:
        place: of this rank.
        facts: what has to be the same on all ranks, in words: its name and its value.
        timeout: how long to wait.
        lost_after: seconds without a sign of life after which a rank of another machine will count
            as lost.

    Raises:
        UsageError: on every rank, for ranks that differ, that are there twice, or that do not come;
            on the rank that sees it, for a port that is taken and an address that nobody has.
    """
    until = time.monotonic() + timeout.total_seconds()
    hosts = place.rank == 0 and not place.hosted
    store = _host(place, timeout) if hosts else _reach(place, timeout, until)
    heartbeat = Heartbeat(
        lambda: _knocking_client(place, timeout), place.rank, place.world, lost_after
    )
    try:
        return store, _met(store, place, facts, until, timeout, heartbeat)
    except RuntimeError as error:
        says = f"rank 0 ended while the ranks were meeting ({str(error).splitlines()[0][:120]})"
        raise _unreachable(place, says) from None
    except UsageError:
        # What rank 0 keeps is where the others read why: it stays until they have, or a little
        # while.
        if place.rank == 0:
            _linger(store, place)
        raise


def _met(
    store: Store,
    place: Place,
    facts: Mapping[str, str],
    until: float,
    timeout: timedelta,
    heartbeat: Heartbeat,
) -> Members:
    rank = place.rank
    world = place.world
    if store.add(f"seat/{rank}", 1) > 1:
        raise UsageError(
            f"Two processes say that they are rank {rank} of {world}.",
            "Each rank has to be there once; a job started twice, or the same --node_rank on two "
            "machines, does this.",
            "Give each machine its own --node_rank, or another job another --master_port.",
        )
    about = {"host": socket.gethostname(), "pid": os.getpid(), "machine": this_machine()}
    say_present(store, rank)
    store.set(f"member/{rank}", json.dumps({**facts, **about}))
    _wait_for_all(store, place, until, timeout)
    told = [json.loads(store.get(f"member/{each}")) for each in range(world)]
    store.set(f"read/{rank}", "")
    members = [
        Member(number, each["host"], each["pid"], each["machine"])
        for number, each in enumerate(told)
    ]
    for name in facts:
        check_same_on_all_ranks(name, [each.get(name, "not told") for each in told], members)
    return Members(members, rank, heartbeat)


def _linger(store: Store, place: Place) -> None:
    until = time.monotonic() + _LINGER
    there = [each for each in range(1, place.world) if store.check([f"member/{each}"])]
    while not all(store.check([f"read/{each}"]) for each in there) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)


def check_same_on_all_ranks(name: str, values: list[str], members: list[Member]) -> None:
    """Refuses ranks that are about to run different things, naming the first two that differ.

    Raises:
        UsageError: where not all values are the same.
    """
    other = next((number for number, value in enumerate(values) if value != values[0]), None)
    if other is None:
        return
    where, mine, theirs = _first_difference(values[0], values[other])
    raise UsageError(
        f"{name}{where} is {mine} on rank 0 ({members[0].host}) and {theirs} on rank {other} "
        f"({members[other].host}).",
        "All ranks have to run the same, or they train different models, or wait for one another "
        "for ever.",
        _MENDS.get(name, "Make them the same on all machines, and start again."),
    )


_MENDS = {
    "config": "Start every machine with the same command, and the same recipe file.",
    "data": "Copy the same files to all machines, or name some that all of them share.",
    "code": "Bring the same version of the code, and of your own recipe file, to all machines.",
}


def _first_difference(one: str, other: str) -> tuple[str, str, str]:
    """Of two JSON objects the first path whose values differ, else the two values as they are."""
    try:
        mine = _flat(json.loads(one))
        theirs = _flat(json.loads(other))
    except ValueError:
        return "", one, other
    for path in sorted({*mine, *theirs}):
        if mine.get(path) != theirs.get(path):
            return path, json.dumps(mine.get(path)), json.dumps(theirs.get(path))
    return "", one, other


def _flat(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        name: each
        for key, inner in value.items()
        for name, each in _flat(inner, f"{path}.{key}").items()
    }


def _host(place: Place, timeout: timedelta) -> Store:
    """Rank 0's side."""
    try:
        return TCPStore(place.address, place.port, None, True, timeout, wait_for_workers=False)
    except (RuntimeError, OSError) as error:
        if "EADDRINUSE" in str(error) or "address already in use" in str(error).lower():
            raise UsageError(
                f"Port {place.port} of {place.address} is taken.",
                "Rank 0 listens there for the other ranks; another job does already, or one that "
                "is still ending.",
                f"Write another port, such as deepspeed --master_port {place.port + 1} …",
            ) from None
        raise _unreachable(place, str(error)) from None


def _reach(place: Place, timeout: timedelta, until: float) -> Store:
    """Any other rank's."""
    said = time.monotonic()
    where = f"{place.address}:{place.port}"
    while True:
        try:
            return _knocking_client(place, timeout)
        except socket.gaierror as error:
            raise _unreachable(place, str(error)) from None
        except (RuntimeError, OSError) as error:
            if time.monotonic() > until:
                says = f"no answer within {_words(timeout)} ({str(error).splitlines()[0][:120]})"
                raise _unreachable(place, says) from None
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            _say(f"{place} waits for rank 0 at {where} …")
        time.sleep(_LOOK_EVERY)


def _knocking_client(place: Place, timeout: timedelta) -> Store:
    """Knocks by itself first: the store's own attempts leave a page of C++ on the screen each."""
    socket.create_connection((place.address, place.port), _KNOCK).close()
    return TCPStore(place.address, place.port, None, False, timeout, wait_for_workers=False)


def _wait_for_all(store: Store, place: Place, until: float, timeout: timedelta) -> None:
    said = time.monotonic()
    world = place.world
    where = f"{place.address}:{place.port}"
    while missing := [each for each in range(world) if not store.check([f"member/{each}"])]:
        if time.monotonic() > until or store.check(["gave up"]):
            store.set("gave up", "")
            store.set(f"read/{place.rank}", "")
            raise UsageError(
                f"{_ranks(missing)} of {world} did not come to {where} within {_words(timeout)}.",
                "A machine that was not started, or cannot reach that address, or a process that "
                "ended at its start.",
                "Look at the output of the machines that are missing; --timeout MINUTES waits "
                "longer.",
            )
        if place.rank == 0 and time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            _say(
                f"waiting at {where} for {_ranks(missing)} of {world}, at most {_words(timeout)} …"
            )
        time.sleep(_LOOK_EVERY)


def _unreachable(place: Place, says: str) -> UsageError:
    return UsageError(
        f"{str(place).capitalize()} cannot use {place.address}:{place.port}, where the ranks meet: "
        f"{says}.",
        "Rank 0 listens there, at MASTER_ADDR and MASTER_PORT, and all others come to it.",
        "Give the launcher an address of the first machine that all can reach: --master_addr, "
        "--master_port.",
    )


def _ranks(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (" …" if len(numbers) > 8 else "")
    return f"rank {shown}" if len(numbers) == 1 else f"{len(numbers)} ranks ({shown})"


def _words(time_limit: timedelta) -> str:
    seconds = time_limit.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
