"""Checkpoints that can be trusted: whole or passed over by name, never lost to a successor, never a
silent start."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import losses, small, train_only

from halting import UsageError
from training.checkpoints import checkpoint, manifest
from training.console.entry import run_entry
from training.train import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 updates, saved at 0, 4, 8 and 12, of which all are kept."""
    output = tmp_path_factory.mktemp("checkpoints")
    assert train_only(small(output, name="run", keep_last=9)) == 0
    return output / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(trained, tmp_path / "run")


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoint.found(run / "checkpoints")]


def damaged(path: Path, how: str) -> None:
    """Does something to a file of a checkpoint."""
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("gone", "random-0000.pt"),
        ("cut", "model.safetensors"),
        ("one bit", "optimizer.safetensors"),
        ("one bit", "progress.json"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    run: Path, how: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = losses(run)
    newest = run / "checkpoints" / "update-000012"
    victim = newest / name
    damaged(victim, how)
    capsys.readouterr()
    assert main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert (
        f"damaged, and passed over: {newest}: {victim.name} " in said
        and "going on after update 8" in said
    )
    assert losses(run) == before, "the updates that were done again are the same, bit for bit"
    assert manifest.damage(newest) == [], "it has been written anew"


@pytest.mark.parametrize("text", ["", "{", '{"version": 1}', '{"version": 2, "files": {}}', "[]"])
def test_a_manifest_that_cannot_be_read_is_damage(run: Path, text: str) -> None:
    newest = run / "checkpoints" / "update-000012"
    (newest / manifest.FILE).write_text(text)
    assert manifest.damage(newest) == [f"its {manifest.FILE} cannot be read"]
    kept, wrong = checkpoint.newest_whole(run / "checkpoints")
    assert kept == run / "checkpoints" / "update-000008" and str(newest) in wrong[0]


def test_without_a_whole_one_a_run_does_not_start_anew(run: Path) -> None:
    before = sorted(path.name for path in run.rglob("*"))
    for path in checkpoint.found(run / "checkpoints"):
        damaged(path / "model.safetensors", "cut")
    with pytest.raises(UsageError, match="holds no whole checkpoint") as error:
        main(["--resume", str(run)])
    assert "update-000012: model.safetensors has" in error.value.what
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UsageError, match="holds no checkpoint"):
        main(["--resume", str(run)])
    assert before and (run / "config.json").exists()


def test_what_a_killed_save_has_left_is_named_and_removed_by_the_next_one(
    run: Path, capsys
) -> None:
    checkpoints = run / "checkpoints"
    left = checkpoints / ".partial-update-000016"
    shutil.copytree(checkpoints / "update-000012", left)
    (left / manifest.FILE).unlink()
    assert names(run)[-1] == "update-000012"
    capsys.readouterr()
    assert main(["--resume", str(run), "--updates", "14"]) == 0
    assert f"passed over: {left}: it was never finished" in capsys.readouterr().out
    assert not left.exists() and names(run)[-1] == "update-000014"


def test_which_checkpoints_are_kept(tmp_path: Path) -> None:
    assert train_only(small(tmp_path, name="run", save_every=1, keep_last=2, keep_every=5)) == 0
    assert names(tmp_path / "run") == [
        "update-000005",
        "update-000010",
        "update-000011",
        "update-000012",
    ]
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_older_ones_go_only_when_the_new_one_is_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that fails at its last moment has taken nothing away."""
    before = names(run)

    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder))

    monkeypatch.setattr(manifest, "write", fail)
    with pytest.raises(UsageError, match="Input/output error") as error:
        main(["--resume", str(run), "--updates", "14", "--keep-last", "1"])
    assert names(run) == before and "The last whole checkpoint is" in error.value.why
    monkeypatch.undo()
    assert main(["--resume", str(run), "--updates", "14", "--keep-last", "1"]) == 0
    assert names(run) == ["update-000014"]


def test_damaged_ones_do_not_take_the_places_of_whole_ones(run: Path) -> None:
    damaged(run / "checkpoints" / "update-000012" / "model.safetensors", "cut")
    assert main(["--resume", str(run), "--updates", "10", "--keep-last", "1"]) == 0
    assert names(run) == ["update-000010", "update-000012"]
    assert checkpoint.newest_whole(run / "checkpoints")[0] == run / "checkpoints" / "update-000010"


def test_an_error_that_is_no_failed_write_stays_itself(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(manifest, "write", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["--resume", str(run), "--updates", "14"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if (
        not mounted
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)]).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_when_there_is_room(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ballast = small_disk / "ballast"
    words = ["pointer_chase", "--name", "run", "--output", str(small_disk)]
    words += [
        "--data.length",
        "6",
        "--model.width",
        "16",
        "--model.num-heads",
        "2",
        "--loop.max-steps",
        "3",
    ]
    words += ["--updates", "400", "--save-every", "1", "--keep-last", "400", "--eval-every", "1000"]
    ballast.write_bytes(bytes(100_000))
    assert run_entry(main, words) == 2
    said = capsys.readouterr().err
    assert "error: A checkpoint could not be written" in said and "the disk is full" in said
    assert "Traceback" not in said
    run = small_disk / "run"
    kept, wrong = checkpoint.newest_whole(run / "checkpoints")
    assert kept is not None and not wrong and kept == checkpoint.found(run / "checkpoints")[-1]
    reached = json.loads((kept / "progress.json").read_text())["update"]
    assert reached > 0
    ballast.unlink()
    more = [
        "--resume",
        str(run),
        "--keep-last",
        "1",
        "--updates",
        str(reached + 3),
        "--test-examples",
        "16",
    ]
    run_entry(main, more)  # what is drawn at the end may have no room here
    assert f"going on after update {reached}" in capsys.readouterr().out
    assert (
        checkpoint.newest_whole(run / "checkpoints")[0]
        == run / "checkpoints" / f"update-{reached + 3:06d}"
    )
