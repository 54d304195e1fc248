"""How a process that was a rank ends."""

import os
import subprocess
import sys

import pytest

ENDS = """
import atexit, sys
atexit.register(print, "teardown")
from training.distributed.process_end import end_process
if sys.argv[1] == "trains":
    import training.distributed.process_group
print("done")
end_process(3)
"""
RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


@pytest.mark.parametrize(
    ("word", "rank", "printed"),
    [
        ("trains", RANK, "done\n"),
        ("trains", {}, "done\nteardown\n"),
        ("only prints", RANK, "done\nteardown\n"),
    ],
)
def test_a_rank_ends_without_pythons_teardown(word, rank, printed) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in RANK}
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, word],
        env=clean | rank,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (3, printed), ended.stderr
