"""Signs of life while a program starts."""

import io
import time

import pytest

from training.console import startup_sign
from training.console.startup_sign import StartupSign


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def awaited(out: io.StringIO, text: str) -> None:
    until = time.monotonic() + 10
    while text not in out.getvalue():
        assert time.monotonic() < until, out.getvalue()
        time.sleep(0.01)


def test_what_takes_long_is_said_and_what_does_not_is_not() -> None:
    quick = io.StringIO()
    StartupSign(quick, first=60).end()
    assert quick.getvalue() == ""
    slow = io.StringIO()
    sign = StartupSign(slow, first=0.01, again=0.01)
    awaited(slow, "starting: loading torch … (0 s)\n")
    sign.doing("building the model")
    awaited(slow, "starting: building the model … (0 s)\n")
    sign.end()
    said = slow.getvalue()
    time.sleep(0.05)
    assert slow.getvalue() == said


def test_on_a_terminal_one_line_is_replaced_and_removed() -> None:
    out = Terminal()
    sign = StartupSign(out, first=0.01)
    awaited(out, "starting:")
    sign.end()
    assert "\n" not in out.getvalue() and out.getvalue().endswith("\r\x1b[K")


def test_nothing_is_said_once_there_is_something_to_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    with startup_sign.shown():
        startup_sign.doing("building the model")
        startup_sign.end()
        startup_sign.doing("training")  # nobody listens any more
    assert errors.getvalue() == ""
