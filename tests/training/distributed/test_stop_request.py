"""Which signals are one request, and what an end at once says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.distributed.launcher_watch import LauncherWatch
from training.distributed.stop_request import Standing, StopRequest, insists

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("first", "later", "seconds", "second"),
    [
        (TERM, TERM, 0.1, False),  # the group got it, and the launcher passes it on
        (TERM, TERM, 4.0, False),
        (TERM, TERM, 6.0, True),
        (INT, TERM, 0.1, False),  # what deepspeed makes of a Ctrl-C
        (INT, TERM, 6.0, True),
        (INT, INT, 0.1, False),  # torchrun passes it on
        (INT, INT, 1.0, True),  # a person
        (TERM, INT, 0.1, True),
        (HUP, TERM, 0.1, False),  # systemd sends both
        (TERM, HUP, 0.0, False),
        (INT, HUP, 60.0, False),  # the terminal is closed while it saves
    ],
)
def test_what_is_heard_twice(
    first: signal.Signals, later: signal.Signals, seconds: float, second: bool
) -> None:
    assert insists(later, first, seconds) is second


def test_signals_that_echo_ask_once_and_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (INT, TERM, HUP)]
    with StopRequest().training() as request:
        assert not request.asked
        os.kill(os.getpid(), TERM)
        os.kill(os.getpid(), TERM)
        os.kill(os.getpid(), HUP)
        assert request.why == "SIGTERM"
    assert [signal.getsignal(number) for number in (INT, TERM, HUP)] == before


PROGRAM = """
import ctypes, os, sys, time
from training.distributed import stop_request
with stop_request.heard_from_the_start():
    request = stop_request.of_this_program()
    moment = sys.argv[1]
    if moment in ("training", "insisting", "late"):
        with request.training():
            print("there", flush=True)
            while not request.asked:
                time.sleep(0.01)
            if moment == "insisting":
                time.sleep(30)
            print("saved", flush=True)
        if moment == "late":
            request.finishing(stop_request.Standing("testing", "all is saved", "go on"))
            time.sleep(30)
    elif moment == "deaf":
        print("there", flush=True)
        libc = ctypes.CDLL(None)
        while True:  # a library that never comes back, as a collective that waits
            libc.sleep(30)
    else:
        print("there", flush=True)
        time.sleep(30)
"""


def told(moment: str, *numbers: signal.Signals, pause: float = 0.0) -> tuple[int, str]:
    """The exit code and the words of a program that gets signals at a moment."""
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONPATH": root},
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "there\n"
            for number in numbers:
                program.send_signal(number)
                time.sleep(pause)
            output, _ = program.communicate(timeout=20)
        finally:
            program.kill()
    return program.returncode, output


@pytest.mark.parametrize("moment", ["starting", "deaf"])
def test_a_signal_before_training_ends_with_a_word(moment: str) -> None:
    code, output = told(moment, TERM)
    assert code == 128 + TERM
    assert output.count("stopped by SIGTERM while starting up.") == 1
    assert "fix:  give the same command again" in output


def test_a_request_is_saved_and_the_same_one_again_changes_nothing() -> None:
    code, output = told("training", TERM, TERM)
    assert code == 0 and "saved" in output


def test_a_second_request_ends_at_once_and_says_from_where_to_go_on() -> None:
    code, output = told("insisting", INT, INT, pause=1.0)
    assert code == -INT
    assert "SIGINT after SIGINT: ended at once; the last whole checkpoint" in output
    assert "saved" not in output


def test_a_request_that_comes_too_late_for_the_loop_ends_the_test() -> None:
    code, output = told("late", HUP)
    assert code == 128 + HUP
    assert "stopped by SIGHUP while testing" in output and "why:  all is saved" in output


def test_a_signal_that_interrupts_the_end_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a group is told twice: the second one comes while the first is being answered."""

    def told_again(text: str) -> None:
        said.append(text)
        os.kill(os.getpid(), HUP)
        time.sleep(0.01)  # the handler has run

    class EndedError(Exception):
        pass

    def leave(code: int) -> None:
        raise EndedError(code)

    said: list[str] = []
    monkeypatch.setattr("training.distributed.stop_request._tell", told_again)
    monkeypatch.setattr(os, "_exit", leave)
    request = StopRequest(LauncherWatch(None, None), standing=Standing("testing", "", ""))
    with request, pytest.raises(EndedError, match=str(128 + HUP)):
        request.end("by SIGHUP", HUP)
    assert len(said) == 1


def test_outside_of_a_program_nothing_is_ended() -> None:
    request = StopRequest(LauncherWatch(None, None))
    request.finishing(Standing("testing", "", ""))
    assert request.standing is None


def test_a_rank_whose_sibling_has_ended_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children of this process, as a launcher starts them."""
    waits = [sys.executable, "-c", "import time; time.sleep(30)"]
    ranks = [subprocess.Popen(waits, env={**os.environ, "RANK": str(rank)}) for rank in (4, 5)]
    try:
        for name, value in (("RANK", "4"), ("LOCAL_RANK", "0"), ("LOCAL_SIZE", "3")):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(os, "getppid", os.getpid)
        watch = LauncherWatch(os.getpid(), None)
        assert watch.missing() == [6]
        ranks[1].kill()
        ranks[1].wait()
        assert watch.missing() == [5, 6]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert LauncherWatch(None, None).missing() == []
