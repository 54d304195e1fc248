"""Slips of a hand in library calls, refused in three parts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from act import LastSteps, Truncated
from act.loop.checks import check_max_steps
from halting import UsageError
from halting.counts import is_count

NOT_COUNTS: list[Any] = [0, -1, 2.5, 2.0, True, False, "3", None, [3], float("nan")]


@pytest.mark.parametrize("value", NOT_COUNTS, ids=repr)
def test_what_counts_steps_is_a_whole_number(value: Any) -> None:
    assert not is_count(value)
    with pytest.raises(UsageError, match="max_steps is") as refusal:
        check_max_steps(value)
    assert repr(value) in refusal.value.what and "whole number" in refusal.value.write


def test_numbers_of_other_libraries_count() -> None:
    import numpy as np

    assert is_count(3) and is_count(np.int64(3)) and not is_count(np.float32(3)) and is_count(0, 0)


@pytest.mark.parametrize("scheme", [Truncated, LastSteps])
def test_a_truncation_counts_too(scheme: type) -> None:
    with pytest.raises(UsageError, match="after 0 steps"):
        scheme(0)


SLIPS = """
import torch
from act import Block, LastSteps, LoopedTransformer, Recurrence, Truncated
from halting import FixedSteps, GravesACT, MaxSteps, MinSteps, UsageError
from halting.wrappers.stop_at import StopAt

block, rule = Block(8, 2), GravesACT(8)
loop = Recurrence(block, rule, max_steps=2)
calls = [
    call
    for value in (2.5, True, "3", 0)
    for call in (
        lambda value=value: Recurrence(block, rule, max_steps=value),
        lambda value=value: loop(torch.zeros(1, 2, 8), max_steps=value),
        lambda value=value: loop.begin(torch.zeros(1, 2, 8), max_steps=value),
        lambda value=value: LoopedTransformer(
            vocab_size=5, width=8, num_heads=2, rule=rule, max_steps=value
        ),
        lambda value=value: FixedSteps(value),
        lambda value=value: MinSteps(rule, value),
        lambda value=value: MaxSteps(rule, value),
        lambda value=value: StopAt(rule, value),
        lambda value=value: Truncated(value),
        lambda value=value: LastSteps(value),
    )
] + [
    lambda: LoopedTransformer(
        vocab_size=5, width=8, num_heads=2, rule=GravesACT(4), max_steps=2
    ),
]
for call in calls:
    try:
        call()
    except UsageError as error:
        assert error.what and error.why and error.write
    else:
        raise SystemExit("taken")
print(len(calls), "refused")
"""


def test_they_are_refused_everywhere() -> None:
    """Without the type checks that pytest has on."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SLIPS], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "41 refused", done.stderr
