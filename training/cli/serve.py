"""`ponder serve`: a page to type texts into, whose maps are drawn as one types, and the same as
JSON for programs."""

import errno
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from halting.errors import UsageError
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.page import page
from training.runs.loaded import Run, load_run, newest_run
from training.runs.recording import about_run
from training.serving.map_request import Limits
from training.serving.map_server import MapServer

_SHOWN = 8  # examples of the run's own, until somebody types
_LAST_TURN = 5.0  # seconds that the text in hand has, when the server ends


@dataclass(frozen=True)
class Options:
    """A page to type texts into, and their ponder maps as JSON. For this machine alone, unless told
    otherwise."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    port: int = 8017
    """where to listen; 0 for any that is free"""
    host: str = "127.0.0.1"
    """the address to listen at; one that other machines reach needs --expose too"""
    expose: bool = False
    """let other machines in, without any password"""
    name: tuple[str, ...] = ()
    """names by which this machine may be called, beside its addresses and localhost"""
    most_bytes: int = 65536
    """of a request"""
    most_tokens: int = 1024
    """of a text"""
    most_steps: int | None = None
    """of the loop; twice the run's own if left out"""
    most_waiting: int = 16
    """requests that may wait for the model; more are told to come again"""


def main(argv: Sequence[str]) -> int:
    """Serves until Ctrl-C; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder serve", description=Options.__doc__)
    _check(options)
    run = load_run(Path(options.run) if options.run is not None else newest_run())
    server = make_server(run, options)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a shell starts what it runs behind with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    reach = "other machines can reach it" if options.expose else "for this machine alone"
    print(f"{run.folder} is at {server.url} ({reach}); Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nended")
    finally:
        server.server_close()
        server.turns.last(_LAST_TURN)
    return 0


def make_server(run: Run, options: Options) -> MapServer:
    """The server of a run, listening already.

    Raises:
        UsageError: where it cannot listen there.
    """
    steps = options.most_steps or 2 * run.model.recurrence.max_steps
    limits = Limits(options.most_bytes, options.most_tokens, steps)

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
    address = (addresses(options.host)[0], options.port)
    names = frozenset(name.lower() for name in options.name)
    try:
        return MapServer(
            address, think, text, about(run, limits), limits, options.most_waiting, names
        )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"--host {options.host} --port {options.port}: nothing can listen there "
            f"({error.strerror}).",
            "Another program does already." if taken else "The system does not allow it.",
            "Write another --port, or --port 0 for any that is free.",
        ) from error


def own_examples(run: Run) -> PonderMap:
    """The map that the run kept, or one of its first test examples."""
    if (run.folder / "ponder_map.npz").is_file():
        return PonderMap.load(run.folder / "ponder_map")
    return run.ponder_map(run.task.batch("test", 0, _SHOWN))


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
    """The first test example as somebody would type it; "" where no text says it."""
    batch = run.task.batch("test", 0, 1)
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


def _check(options: Options) -> None:
    """Refuses what cannot be, and an address that lets others in without being told to."""
    if not 0 <= options.port <= 65535:
        raise UsageError(
            f"--port is {options.port}.", "Ports go from 0 to 65535.", "Write one of them."
        )
    for name, value in (
        ("most-bytes", options.most_bytes),
        ("most-tokens", options.most_tokens),
        ("most-steps", 1 if options.most_steps is None else options.most_steps),
        ("most-waiting", options.most_waiting),
    ):
        if value < 1:
            raise UsageError(
                f"--{name} is {value}.", "Nothing would be answered.", "Write 1 or more."
            )
    if not options.expose and not only_here(options.host):
        raise UsageError(
            f"--host {options.host} lets other machines in.",
            "Whoever reaches the port can use the model; there is no password.",
            "Leave --host out, or write --expose beside it if that is meant.",
        )


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
