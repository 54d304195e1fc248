"""What happens to a run folder while a run trains, and between its starts: the training goes on
where it can, and else ends in three parts that name the file and the last checkpoint."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_runs import losses, small, stands_at, train_only

from halting import UsageError
from training import load_run
from training.config.parts import resolve
from training.console.entry import run_entry
from training.runs.growth import Growth
from training.runs.metrics import DAMAGED, FILE, Metrics, read_metrics
from training.start import train
from training.tasks import PointerChase
from training.tasks.task import Batch, Task
from training.train import main

AT = 40


HAPPENS: list[Callable[[], object]] = []
"""What happens, once, when the sixth update asks for its examples."""


class Happening(PointerChase):
    """A task during whose training something happens."""

    def batch(self, split: str, index: int, size: int) -> Batch:
        if split == "train" and index == AT and HAPPENS:
            HAPPENS.pop()()
        return super().batch(split, index, size)


HAPPENING = {"kind": f"{__file__}:Happening", "options": {"length": 6}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("surroundings")
    assert train(small(output, name="run", keep_last=9)) == 0
    return output / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def when(happens: Callable[[], object]) -> None:
    """Has something happen during the next training."""
    # The task is loaded by its file's name, which may be another module than this one.
    cls = resolve(HAPPENING["kind"], Task)
    sys.modules[cls.__module__].HAPPENS.append(happens)


def test_a_damaged_log_is_set_aside_and_the_run_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = losses(run)
    lines = (run / FILE).read_bytes().splitlines(keepends=True)
    bad = [b"\xff\xfe\x00\n", b"{cut\n", b"[1]\n", b'{"kind": 3, "update": "x"}\n', b"\n"]
    (run / FILE).write_bytes(b"".join([*bad[:3], *lines, *bad[3:], b'{"kind": "train", "upd']))
    assert {line["update"]: line["loss"] for line in read_metrics(run, "train")} == before
    assert len(load_run(run).metrics["loss"]) == len(before)
    capsys.readouterr()
    assert main(["--resume", str(run), "--updates", "14", "--test-examples", "16"]) == 0
    said = capsys.readouterr().out
    assert f"warning: 5 lines of {run / FILE} cannot be read: set aside in {DAMAGED}" in said
    assert (run / DAMAGED).read_bytes() == b"".join(bad)
    after = losses(run)
    assert {update: after[update] for update in before} == before and max(after) == 14


@pytest.mark.parametrize("name", ["growth/update-000000.json", "growth/update-000005.npz"])
def test_a_damaged_map_is_left_out(run: Path, name: str) -> None:
    (run / name).write_bytes(b"{")
    assert main(["--resume", str(run), "--updates", "13", "--test-examples", "16"]) == 0
    assert (run / "ponder_map.html").is_file()


def test_times_and_updates_of_all_parts_are_counted(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = stands_at(run)["train_seconds"]
    capsys.readouterr()
    assert main(["--resume", str(run), "--updates", "14", "--test-examples", "16"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["updates"] == 14 and summary["train_seconds"] > first
    assert "14 updates in" in capsys.readouterr().out


def test_a_side_channel_that_fails_ends_no_training(tmp_path: Path) -> None:
    said: list[str] = []

    def broken(figures: object) -> None:
        raise ConnectionError("no network")

    metrics = Metrics(tmp_path, reports=[broken], warn=said.append)
    board = metrics._board
    assert board is not None

    def full(*figure: object) -> None:
        raise OSError(27, "File too large")

    board.add_scalar = full
    for update in (1, 2):
        metrics.write("train", update, loss=1.0)
    metrics.close()
    assert len(read_metrics(tmp_path)) == 2 and len(said) == 2
    assert "TensorBoard gets no more figures: [Errno 27] File too large" in said[0]
    assert "--report-to gets no more figures: no network" in said[1]


@contextlib.contextmanager
def file_size(limit: int) -> Iterator[None]:
    """While it is entered, no file may grow beyond a number of bytes, as by ulimit -f."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def test_a_limit_on_the_size_of_files_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with file_size(20_000):
        code = run_entry(lambda _: train_only(small(tmp_path, name="run")), [])
    said = capsys.readouterr().err
    assert code == 2 and "File too large" in said and "ulimit -f" in said
    assert "Traceback" not in said


def test_a_run_folder_that_is_removed_in_mid_run_is_not_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def remove() -> None:
        while folder.exists():  # the lock gives signs of life in there meanwhile
            shutil.rmtree(folder, ignore_errors=True)

    when(remove)
    with pytest.raises(UsageError, match="A checkpoint could not be written") as error:
        train_only(small(tmp_path, name="run", data=HAPPENING))
    assert "No such file" in error.value.what and "No checkpoint is there" in error.value.why
    assert f"Bring {folder} back" in error.value.write and not folder.exists()


def test_a_run_folder_that_a_file_has_taken_the_place_of(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def replaced() -> None:
        folder.rename(tmp_path / "moved")
        folder.write_text("")

    when(replaced)
    with pytest.raises(UsageError, match="A checkpoint could not be written"):
        train_only(small(tmp_path, name="run", data=HAPPENING))
    with pytest.raises(UsageError, match="is not a run folder"):
        main(["--resume", str(folder)])
    folder.unlink()
    (tmp_path / "moved").rename(folder)
    assert main(["--resume", str(folder), "--test-examples", "16"]) == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)]
    if not shutil.which("mount") or os.geteuid() != 0 or subprocess.run(words).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


def test_a_folder_that_is_read_only_before_a_resume(disk: Path, trained: Path) -> None:
    run = shutil.copytree(trained, disk / "run")
    remount(disk, "ro")
    with pytest.raises(UsageError, match="cannot be written to: Read-only file system") as error:
        main(["--resume", str(run)])
    assert "--start-from" in error.value.write


def test_a_disk_that_fills_between_saves_names_file_and_checkpoint(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        with contextlib.suppress(OSError), (disk / "ballast").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    when(fill)
    long = small(
        disk, name="run", data=HAPPENING, updates=90, save_every=99, eval_every=99, keep_last=9
    )
    assert run_entry(lambda _: train_only(long), []) == 2
    said = capsys.readouterr()
    kept = disk / "run" / "checkpoints" / "update-000000"
    assert str(kept) in said.err and "Traceback" not in said.err
    assert f"{disk / 'run' / FILE} cannot be written: No space left" in said.err
    (disk / "ballast").unlink()
    more = ["--resume", str(disk / "run"), "--test-examples", "16", "--updates", "9"]
    assert main(more) == 0
    assert sorted(losses(disk / "run")) == list(range(1, 10))


def test_a_map_that_cannot_be_kept_is_told_of(tmp_path: Path) -> None:
    said: list[str] = []
    growth = Growth.__new__(Growth)
    growth.home, growth.warn = tmp_path / "gone", said.append
    with pytest.raises(FileNotFoundError):
        growth._keep(None, 3)  # pyright: ignore[reportArgumentType]
    assert not growth.home.exists(), "a run folder that is gone is not made anew"


@pytest.mark.parametrize("name", ["metrics.jsonl", "log.txt", "summary.json"])
@pytest.mark.parametrize("how", ["link", "pipe"])
def test_a_run_folder_does_not_lead_a_training_elsewhere(
    run: Path, tmp_path: Path, name: str, how: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (run / name).unlink()
    if how == "link":
        (run / name).symlink_to(victim)
    else:
        os.mkfifo(run / name)
    with pytest.raises(UsageError, match=f"{name} is {'a link' if how == 'link' else 'no file'}"):
        main(["--resume", str(run), "--updates", "13"])
    assert victim.read_text() == "mine"
