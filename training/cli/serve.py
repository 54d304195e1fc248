"""`ponder serve`: a page to type texts into, whose maps are drawn as one types, and the same as
JSON for programs."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from halting.errors import UsageError
from training.runs.loaded import Run, load_run, newest_run
from training.serving.map_request import Limits
from training.serving.map_server import MapServer
from training.serving.server import make_server, only_here

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
    server = open_server(run, options)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a shell starts what it runs behind with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    reach = "other machines can reach it" if options.expose else "for this machine alone"
    print(f"{run.path} is at {server.url} ({reach}); Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nended")
    finally:
        server.server_close()
        server.turns.last(_LAST_TURN)
    return 0


def open_server(run: Run, options: Options) -> MapServer:
    """The server that the options describe, listening already.

    Raises:
        UsageError: where it cannot listen there.
    """
    steps = options.most_steps or 2 * run.model.recurrence.max_steps
    limits = Limits(options.most_bytes, options.most_tokens, steps)
    return make_server(run, options.host, options.port, options.name, limits, options.most_waiting)


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
