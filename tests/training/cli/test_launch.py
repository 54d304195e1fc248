"""`ponder launch` stops what it has started, also what does not listen yet."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from training.cli.launch import Attempt, StopSignals

PATIENCE = 30.0
DEAF = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path({!r}).touch()
time.sleep(30)
"""


def test_a_stop_reaches_a_command_that_loses_a_ctrl_c_among_its_imports(tmp_path: Path) -> None:
    """As deepspeed's did for some tenths of a second, and then trained as if nobody had asked."""
    deaf = tmp_path / "deaf"

    def interrupt() -> None:
        until = time.monotonic() + PATIENCE
        while not deaf.exists() and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with StopSignals() as stop:
        thread.start()
        code = Attempt([sys.executable, "-c", DEAF.format(str(deaf))], stop).run()
    thread.join()
    assert stop.heard == "SIGINT"
    assert code == -signal.SIGTERM, "it slept to its end"
