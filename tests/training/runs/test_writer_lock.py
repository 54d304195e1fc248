"""One training at a time writes into a run folder: who holds it, who is gone, and who may take
over."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_runs import losses, small, train_only

from halting import UsageError
from training.checkpoints import checkpoint
from training.runs import writer_lock
from training.runs.writer_lock import FILE, Holder, WriterLock, started
from training.train import main

ELSEWHERE = replace(Holder.this_process(), host="elsewhere", machine="another", token="t")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("locked")
    assert train_only(small(output, name="run")) == 0
    return output / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def held_by(folder: Path, holder: Holder, age: float = 0.0) -> Path:
    """A lock as that holder would have left it."""
    path = folder / FILE
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def parent() -> Holder:
    """A process of this machine that runs."""
    pid = os.getppid()
    return replace(Holder.this_process(), pid=pid, started=started(pid), token="t")


def ended() -> Holder:
    """One that has run."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return replace(Holder.this_process(), pid=child.pid, token="t")


def contents(run: Path) -> dict[str, bytes]:
    files = (path for path in run.rglob("*") if path.is_file() and path.name != FILE)
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def test_a_run_that_is_trained_is_not_touched_by_another_training(run: Path) -> None:
    held_by(run, parent())
    before = contents(run)
    with pytest.raises(UsageError, match=f"is being trained by process {os.getppid()} on") as error:
        main(["--resume", f"{run}@8", "--updates", "20"])
    assert contents(run) == before and "two trainings" in error.value.why.lower()
    assert f"kill {os.getppid()}" in error.value.write and "--start-from" in error.value.write
    assert (run / FILE).exists(), "the lock is the other's"


@pytest.mark.parametrize(
    "holder",
    [ended, lambda: replace(parent(), started=1.0)],
    ids=["its process has ended", "another process has its number"],
)
def test_the_lock_of_one_that_is_gone_is_taken_over(run: Path, holder) -> None:
    held_by(run, holder())
    before = losses(run)
    assert main(["--resume", str(run), "--updates", "14", "--test-examples", "16"]) == 0
    assert {update: losses(run)[update] for update in before} == before
    assert not list(run.glob(f"{FILE}*")), "and released at the end"


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    def fail(context) -> None:
        assert (context.folder / FILE).exists()
        raise RuntimeError("at the end")

    from training.start import train

    with pytest.raises(RuntimeError, match="at the end"):
        train(small(tmp_path, name="run", updates=2), finishing=fail)
    assert not list((tmp_path / "run").glob(f"{FILE}*"))


def test_a_holder_on_another_machine_is_gone_when_its_signs_of_life_stay_away(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    held_by(tmp_path, ELSEWHERE, age=100.0)
    lock = WriterLock(tmp_path)
    lock.acquire(said.append)
    lock.release()
    assert not said, "it has been silent for long"
    held_by(tmp_path, ELSEWHERE)
    lock = WriterLock(tmp_path, silent=0.6)
    lock.acquire(said.append)
    lock.release()
    assert "process" in said[0] and "elsewhere" in said[0]
    (tmp_path / FILE).write_text("cut off: {")
    lock = WriterLock(tmp_path, silent=0.3)
    lock.acquire()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_holder_on_another_machine_that_gives_signs_of_life_is_left_alone(tmp_path: Path) -> None:
    path = held_by(tmp_path, ELSEWHERE, age=5.0)
    sign = threading.Timer(0.3, lambda: os.utime(path))
    sign.start()
    with pytest.raises(UsageError, match="trained by process .* on elsewhere"):
        WriterLock(tmp_path, silent=30.0).acquire()
    sign.join()
    assert Holder.read(path) == ELSEWHERE


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_want_a_lock_one_gets_it(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one that is gone has left it behind, and where the file system has no links."""

    def no_link(*paths: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    for stale in (False, True, True, True):
        if stale:
            held_by(tmp_path, ELSEWHERE, age=100.0)
        locks = [WriterLock(tmp_path, silent=5.0) for _ in range(6)]
        got: list[WriterLock] = []
        refused: list[UsageError] = []
        start = threading.Barrier(len(locks))

        def compete(lock: WriterLock, start=start, got=got, refused=refused) -> None:
            start.wait()
            try:
                lock.acquire()
                got.append(lock)
            except UsageError as error:
                refused.append(error)

        threads = [threading.Thread(target=compete, args=(lock,)) for lock in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1 and len(refused) == len(locks) - 1
        got[0].check()
        got[0].release()
    assert not list(tmp_path.iterdir())


def test_one_that_was_taken_over_writes_no_more(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path, beat=0.05)
    lock.acquire()
    (tmp_path / FILE).unlink()
    lock.check()
    assert (tmp_path / FILE).exists(), "a lock that somebody removed is put back"
    held_by(tmp_path, ELSEWHERE)
    with pytest.raises(UsageError, match="was taken over by process .* on elsewhere"):
        lock.check()
    time.sleep(0.2)
    lock.release()
    assert Holder.read(tmp_path / FILE) == ELSEWHERE


def test_signs_of_life_are_given(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path, beat=0.05)
    lock.acquire()
    os.utime(tmp_path / FILE, (0, 0))
    until = time.monotonic() + 10
    while (tmp_path / FILE).stat().st_mtime == 0 and time.monotonic() < until:
        time.sleep(0.02)
    assert (tmp_path / FILE).stat().st_mtime > 0
    lock.release()


def test_a_folder_that_is_gone_or_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written to: No such file"):
        WriterLock(tmp_path / "gone").acquire()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written to: Not a directory"):
        WriterLock(tmp_path / "file").acquire()


def test_a_start_that_ends_before_its_first_checkpoint_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.start.seed_rank", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_only(small(tmp_path, name="run"))
    assert not (tmp_path / "run").exists()


def left_behind(folder: Path) -> Path:
    """What a SIGKILL before the first checkpoint leaves."""
    folder.mkdir()
    (folder / "config.json").write_text(small(folder.parent).to_json())
    (folder / "log.txt").write_text("")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / ".partial-update-000000").mkdir()
    held_by(folder, ended())
    return folder


def test_a_run_without_a_checkpoint_does_not_block_its_name(tmp_path: Path) -> None:
    left = left_behind(tmp_path / "run")
    assert train_only(small(tmp_path, name="run", updates=2)) == 0
    assert [path.name for path in checkpoint.found(left / "checkpoints")][-1] == "update-000002"
    (tmp_path / "empty").mkdir()
    assert train_only(small(tmp_path, name="empty", updates=1)) == 0


@pytest.mark.parametrize(
    "add", ["notes.txt", ".git", "checkpoints/update-000004", "final/model.safetensors"]
)
def test_a_folder_with_anything_else_in_it_is_not_taken(tmp_path: Path, add: str) -> None:
    left = left_behind(tmp_path / "run")
    (left / add).parent.mkdir(exist_ok=True)
    (left / add).write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        train_only(small(tmp_path, name="run"))
    assert (left / add).read_text() == "mine"


def test_a_start_that_another_one_is_ahead_of_is_refused(tmp_path: Path) -> None:
    left = left_behind(tmp_path / "run")
    held_by(left, parent())
    with pytest.raises(UsageError, match="is being trained by process"):
        train_only(small(tmp_path, name="run"))
    assert (left / "config.json").exists()
    assert writer_lock.FILE in {path.name for path in left.iterdir()}
