"""Who is gone, who is stopped, and what is said of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.distributed import members as rooms
from training.distributed.last_sign import LAST_SIGN, LastSign
from training.distributed.members import Member, Members


@pytest.fixture
def others() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two processes that wait."""
    waits = [sys.executable, "-c", "import time; time.sleep(60)"]
    found = [subprocess.Popen(waits) for _ in range(2)]
    try:
        yield found
    finally:
        for each in found:
            each.kill()
            each.wait()


def members(others: list[subprocess.Popen[bytes]]) -> Members:
    """This process as rank 0, and the others."""
    pids = [os.getpid(), *(each.pid for each in others)]
    return Members([Member(rank, "here", pid) for rank, pid in enumerate(pids)], 0)


def awaited(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_who_ends_after_the_first_is_not_blamed(others: list[subprocess.Popen[bytes]]) -> None:
    all_ranks = members(others)
    assert all_ranks.gone() == []
    others[0].kill()
    awaited(all_ranks.gone)
    others[1].kill()
    others[1].wait()
    assert [each.rank for each in all_ranks.gone()] == [1]


def test_ranks_that_are_killed_together_are_all_named(
    others: list[subprocess.Popen[bytes]],
) -> None:
    all_ranks = members(others)
    for each in others:
        each.kill()
    awaited(all_ranks.gone)
    assert [each.rank for each in all_ranks.gone()] == [1, 2]


def test_a_rank_that_is_stopped_is_named_and_so_that_it_goes_on(
    others: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(rooms, "_FROZEN", 0.0)
    all_ranks = members(others)
    LAST_SIGN.mark("update 7")
    all_ranks.watch()
    said = ""

    def says(text: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return text in said

    try:
        others[1].send_signal(signal.SIGSTOP)
        awaited(lambda: says(f"rank 2 (process {others[1].pid} on here) is stopped"))
        assert "before update 7" in said and f"kill -CONT {others[1].pid}" in said
        others[1].send_signal(signal.SIGCONT)
        awaited(lambda: says(f"rank 2 (process {others[1].pid} on here) goes on"))
    finally:
        all_ranks.stop_watching()


def test_a_collective_that_failed_says_who_did_not_answer(
    others: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "checkpoints" / "update-000040").mkdir(parents=True)
    monkeypatch.setattr(rooms, "_SEEN", 0.0)
    codes: list[int] = []
    monkeypatch.setattr(rooms.os, "_exit", codes.append)
    all_ranks = members(others)
    all_ranks.train_in(tmp_path)
    all_ranks.end_failed(RuntimeError("shapes differ"))
    assert not codes, "that is no collective's error"
    others[0].send_signal(signal.SIGSTOP)
    awaited(all_ranks.stopped)
    LAST_SIGN.mark("saving after update 41")
    all_ranks.end_failed(RuntimeError("[gloo/transport/tcp] Timed out waiting 30000ms\nat"))
    said = capsys.readouterr().err
    assert codes == [1]
    assert "a rank has not answered: saving after update 41, since " in said
    assert f"rank 1 (process {others[0].pid} on here) is stopped" in said
    assert f"(update-000040): … --module training.train --resume {tmp_path}" in said
    assert "Timed out waiting 30000ms)" in said


def test_the_longest_wait_so_far_is_known() -> None:
    sign = LastSign()
    assert sign.doing == "starting up"
    time.sleep(0.05)
    sign.mark("update 1")
    sign.mark("update 2")
    assert sign.longest >= 0.05 > sign.ago and sign.doing == "update 2"
