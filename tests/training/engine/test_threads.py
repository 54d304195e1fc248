"""Threads where nobody has said how many."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from training.engine.threads import threads_for, threads_of_a_trial


def test_a_small_model_has_one_and_the_environment_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    small, large = nn.Linear(128, 512), nn.Linear(128, 513)
    assert (threads_for(small), threads_for(large)) == (1, None)
    assert threads_of_a_trial(1) is None
    cores = len(os.sched_getaffinity(0))
    assert threads_of_a_trial(cores) == threads_of_a_trial(10 * cores) == 1
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "3")
        assert threads_for(small) is None and threads_of_a_trial(2) is None
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("told", "policy"), [({}, "passive"), ({"OMP_WAIT_POLICY": "x"}, "x")])
def test_threads_of_a_program_do_not_spin_unless_told_to(told: dict[str, str], policy: str) -> None:
    program = (
        "import os, sys; from training.console.entry import run_entry\n"
        "before = 'torch' in sys.modules\n"
        "run_entry(lambda words: print(before, os.environ['OMP_WAIT_POLICY']) or 0, [])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    root = str(Path(__file__).parents[3])
    said = subprocess.check_output(
        [sys.executable, "-c", program], env={**environment, "PYTHONPATH": root, **told}, text=True
    )
    assert said == f"False {policy}\n"
