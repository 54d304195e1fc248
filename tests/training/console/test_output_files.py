"""Files that a person asks for: refused before any work where they cannot be written, whole or not
at all, and never over something else unasked."""

import errno
import importlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from halting import UsageError
from training.cli.main import VERBS
from training.console.output_files import check_outputs, new_file, write_text


def long_name(folder: Path) -> Path:
    return folder / ("x" * 300 + ".json")


def in_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "out.json"


def a_folder(folder: Path) -> Path:
    (folder / "folder").mkdir()
    return folder / "folder"


def there(folder: Path) -> Path:
    (folder / "there.json").write_text("mine")
    return folder / "there.json"


@pytest.mark.parametrize(
    ("make", "says", "fix"),
    [
        (long_name, "File name too long", "shorter name"),
        (in_a_file, "Not a directory", "through folders"),
        (a_folder, "Is a directory", "file in it"),
        (there, "exists already", "--overwrite"),
    ],
)
def test_what_cannot_be_written_is_refused_beforehand(
    tmp_path: Path, make, says: str, fix: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(UsageError) as error:
        check_outputs(None, path)
    assert str(path) in error.value.what and says in error.value.what and fix in error.value.write


def test_what_is_there_is_replaced_on_request_and_only_a_file(tmp_path: Path) -> None:
    path = there(tmp_path)
    check_outputs(path, overwrite=True)
    write_text(path, "new")
    assert path.read_text() == "new"
    with pytest.raises(UsageError, match="Is a directory"):
        check_outputs(a_folder(tmp_path), overwrite=True)


def test_one_path_is_not_for_two_outputs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given for two outputs"):
        check_outputs(tmp_path / "a", None, tmp_path / "a")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\u202etxt.png"])
def test_a_name_that_cannot_be_seen_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"The output .* holds"):
        check_outputs(tmp_path / name)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.json"
    check_outputs(path)
    write_text(path, "text")
    assert path.read_text() == "text" and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_nothing_half_written_stays(tmp_path: Path, error: BaseException) -> None:
    path = there(tmp_path)

    def write() -> None:
        with new_file(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(UsageError if isinstance(error, OSError) else KeyboardInterrupt):
        write()
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_device_is_written_to_as_it_is(tmp_path: Path) -> None:
    check_outputs(Path(os.devnull))
    write_text(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(disk)]
    if not shutil.which("mount") or os.geteuid() != 0 or subprocess.run(words).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_and_a_read_only_disk(mounted: Path) -> None:
    with pytest.raises(UsageError, match="No space left on device") as error:
        write_text(mounted / "out.json", "x" * 200_000)
    assert "Make room" in error.value.write and not list(mounted.iterdir())
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(UsageError, match="Read-only file system"):
        check_outputs(mounted / "new" / "out.json")


def test_every_verb_that_writes_what_is_asked_for_can_overwrite_it() -> None:
    writing = set()
    for verb, (name, _) in VERBS.items():
        options = getattr(importlib.import_module(name), "Options", None)
        fields = {} if options is None else options.__dataclass_fields__
        paths = [each for each in ("json", "png", "html") if "Path" in str(fields.get(each, ""))]
        if paths or verb in ("export", "report"):
            writing.add(verb)
            assert "overwrite" in fields, verb
    assert {"show", "compare", "eval", "export", "calibrate"} <= writing
