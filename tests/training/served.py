"""A tiny trained run, and its server in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from small_runs import small

from training.cli.serve import Options, open_server
from training.runs.loaded import Run, load_run
from training.serving.map_server import MapServer
from training.start import train


def tiny_run(folder: Path) -> Run:
    """A run of 2 updates on sequences of up to 6 words."""
    assert train(small(folder, name="tiny", updates=2, save_every=2)) == 0
    return load_run(folder / "tiny")


@contextmanager
def serving(run: Run, **options: Any) -> Iterator[MapServer]:
    """The server of a run, at a free port, until the block ends."""
    server = open_server(run, Options(port=0, **options))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)
        assert not thread.is_alive()
