"""Output whose reader goes, and output that isn't UTF-8: long work goes on."""

import io
import os
import sys
from pathlib import Path

import pytest

from training.console.entry import run_entry
from training.console.steady_output import SteadyStream
from training.train import main

SMALL = [
    *("pointer_chase", "--data.length", "6", "--batch-size", "8", "--model.width", "16"),
    *("--model.num-heads", "2", "--loop.max-steps", "3", "--updates", "6", "--eval-every", "2"),
    *("--eval-examples", "8", "--test-examples", "8", "--name", "run"),
]


def unread_pipe(encoding: str = "utf-8") -> io.TextIOWrapper:
    """The end of a pipe whose reader has gone."""
    reads, writes = os.pipe()
    os.close(reads)
    return open(writes, "w", encoding=encoding, buffering=1)


def test_a_training_goes_on_when_nobody_reads_it_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    errors = io.StringIO()
    with unread_pipe() as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", errors)
        assert run_entry(main, SMALL, is_long=True) == 0
        assert sys.stdout is output
    assert (tmp_path / "runs" / "run" / "summary.json").exists()
    assert errors.getvalue().count("nobody reads the output any more (Broken pipe)") == 1


def test_a_command_that_only_shows_ends_with_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def shows(words: list[str]) -> int:
        print("a map")
        pytest.fail("it went on")

    with unread_pipe() as output, unread_pipe() as errors:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", errors)
        assert run_entry(shows, []) == 0  # pyright: ignore[reportArgumentType]
        output.flush()  # as Python does at its end


def test_text_on_a_full_disk_is_lost_and_later_text_is_not() -> None:
    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    full = Full()
    stream = SteadyStream(full)
    assert stream.write("lost") == 4
    full.full = False
    stream.write("kept")
    assert full.getvalue() == "kept"


def test_a_stream_that_was_closed_before_python_began() -> None:
    stream = SteadyStream(None)
    print("nothing", file=stream, flush=True)  # pyright: ignore[reportArgumentType]
    assert not stream.isatty()
    stream.close()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_an_encoding_lacks_are_replaced(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))

    def shows(words: list[str]) -> int:
        print("▁▂ – 3 × 4 …")
        sys.stdout.flush()
        return 0

    assert run_entry(shows, []) == 0  # pyright: ignore[reportArgumentType]
    assert raw.getvalue().decode(encoding).startswith("?? ? 3 ")
