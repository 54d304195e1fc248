"""What a run may be called, and where it may lie."""

import pytest

from halting import UsageError
from training.cli.train_request import read_request
from training.runs.run_path import RunPath


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        *(("--name", name, "is a path") for name in (".", "..", "a/b", "a/", "/", "../a")),
        *(("--name", name, "holds") for name in ("a\nb", "\x1b[31m", "\u202ea", "\t")),
        *((flag, "a\nb", "holds") for flag in ("--output", "--start-from", "--deepspeed-config")),
        ("--name", "\udcff", "valid string"),
        ("--name", "x" * 256, "too long"),
        ("--output", "runs/" + "é" * 128, "too long"),
        ("--output", "", "is empty"),
        ("--name", "run 1", None),
        ("--name", "日本語", None),
        ("--name", "x" * 255, None),
        ("--output", "/".join(["x" * 200] * 5), None),
    ],
)
def test_names_that_no_folder_can_have_are_refused_at_once(flag: str, value: str, says: str | None):
    if says is None:
        read_request(["parity", flag, value])
        return
    with pytest.raises(UsageError, match=says) as found:
        read_request(["parity", flag, value])
    assert flag in found.value.what and found.value.what.isprintable()


def test_a_checkpoint_of_an_update_that_is_no_number_is_none():
    for which in ("9" * 50, "1e3", "-1", ""):
        with pytest.raises(UsageError, match="names no checkpoint"):
            RunPath.parse(f"runs/x@{which}")
