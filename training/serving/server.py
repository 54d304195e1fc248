"""The server of a run: the page, the examples on it, and where it listens."""

import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import torch

from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.page import page
from training.runs.growth import read_growth
from training.runs.loaded import Run
from training.runs.recording import about_run
from training.serving.map_request import Limits
from training.serving.map_server import MapServer

_SHOWN = 8  # examples of the run's own, until somebody types


def make_server(
    run: Run, host: str, port: int, names: Sequence[str], limits: Limits, most_waiting: int
) -> MapServer:
    """The server of a run, listening already.

    Args:
        run: which thinks.
        host: the address to listen at, or a name that has one.
        port: where; 0 for any that is free.
        names: by which this machine may be called, beside its addresses and localhost.
        limits: on what is asked.
        most_waiting: requests that may wait for the model.

    Raises:
        UsageError: where it cannot listen there.
    """

    def think(text: str, max_steps: int | None) -> PonderMap:
        batch = run.batch_of(text)
        if (length := batch.targets.shape[1]) > limits.tokens:
            raise UsageError(
                f"The text has {length} tokens.",
                f"The limit is {limits.tokens}.",
                "Write a shorter text.",
            )
        return run.ponder_map(batch, max_steps)

    own = own_examples(run)
    text = page.to_html(own, _SHOWN, live=True, example=example_text(run))
    address = (addresses(host)[0], port)
    try:
        return MapServer(
            address,
            think,
            text,
            about(run, limits),
            limits,
            most_waiting,
            frozenset(name.lower() for name in names),
        )
    except OSError as error:
        occupied = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"--host {host} --port {port}: nothing can listen there ({error.strerror}).",
            "Another program does already." if occupied else "The system does not allow it.",
            "Write another --port, or --port 0 for any that is free.",
        ) from error


def own_examples(run: Run) -> PonderMap:
    """The map that the run kept, or one of its first test examples."""
    if (run.folder / "ponder_map.npz").is_file():
        return PonderMap.load(run.folder / "ponder_map")
    try:
        return run.ponder_map(run.task.batch("test", 0, _SHOWN))
    except UsageError:  # the files of its task are gone: a map that it recorded while it trained
        maps, _ = read_growth(run.folder)
        if not maps:
            raise
        return maps[-1]


def about(run: Run, limits: Limits) -> dict[str, Any]:
    """What the server says of its run."""
    longest = run.model.max_length
    return {
        **about_run(run.config, run.folder.name),
        "max_steps": run.model.recurrence.max_steps,
        "difficulty_name": run.task.difficulty_name,
        "example": example_text(run),
        "limits": {
            "body_bytes": limits.body,
            "tokens": min(limits.tokens, longest or limits.tokens),
            "max_steps": limits.steps,
        },
    }


def example_text(run: Run) -> str:
    """The first test example as somebody would type it; "" where no text says it, and
    where there is no example."""
    try:
        batch = run.task.batch("test", 0, 1)
    except UsageError:  # the files of its task are gone
        return ""
    tokens = batch.tokens[0][batch.valid[0]]
    if tokens.dim() > 1:
        return ""
    words = run.task.decode(tokens.tolist())
    for text in (" ".join(words), "".join(words)):
        try:
            if torch.equal(torch.tensor(run.task.encode(text)), tokens):
                return text
        except UsageError:
            continue
    return ""


def addresses(host: str) -> list[str]:
    """The addresses of a host, first the one to listen at.

    Raises:
        UsageError: for a name that has none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except OSError:
        found = []
    if not found:
        raise UsageError(
            f"--host {host!r} has no address.",
            "The server listens at an address of this machine.",
            "Leave --host out, or write such an address.",
        )
    given = [str(each[4][0]) for each in found]
    return sorted(given, key=lambda address: ":" in address)  # IPv4 first: every client speaks it


def only_here(host: str) -> bool:
    """Whether all addresses of a host are this machine's own loopback."""
    return all(ip_address(address.partition("%")[0]).is_loopback for address in addresses(host))
