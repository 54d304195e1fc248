"""Sizes that nothing can have are refused, at once and in three parts, in a dry run too."""

import time

import pytest

from halting import UsageError
from training.build import build_all
from training.cli.train_request import read_request
from training.resources.dry_run_text import dry_run_text

BEYOND = str(10**26)
SMALL = ("parity", "--data.length", "4", "--model.width", "8", "--model.num-heads", "2")


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        *((f"--{flag}", BEYOND, "64 bits") for flag in ("seed", "updates", "loop.max-steps")),
        *((f"--{flag}", BEYOND, "64 bits") for flag in ("data.length", "model.width", "threads")),
        ("--data.length", str(2**40), "no example"),
        ("--model.width", str(2**40), "does not fit|share"),
        ("--model.feed-forward-width", str(2**63 - 1), "does not fit"),
        *((f"--model.{name}-layers", "100000", "layers") for name in ("num", "prelude", "coda")),
        ("--model.rotary-base", "0", "rotary"),
        ("--updates", str(2**62), "Examples .* were asked for"),
        ("--timeout", "1e308", "--timeout|--launch.timeout"),
    ],
)
def test_what_nothing_can_have_is_refused_at_once(flag: str, value: str, says: str):
    began = time.monotonic()
    with pytest.raises(UsageError, match=says):
        dry_run_text(read_request([*SMALL, flag, value]).config)
    with pytest.raises(UsageError, match=says):
        build_all(read_request([*SMALL, flag, value]).config)
    assert time.monotonic() - began < 60, "it hangs"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--updates", str(2**56)),
        ("--seed", str(2**63 - 1)),
        ("--loop.max-steps", str(10**12)),
        ("--batch-size", str(10**15)),
        ("--optimizer.learning-rate", "1e308"),
    ],
)
def test_large_numbers_are_told_in_a_dry_run(flag: str, value: str):
    assert "nothing is trained" in dry_run_text(read_request([*SMALL, flag, value]).config)
