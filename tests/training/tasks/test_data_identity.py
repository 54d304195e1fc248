"""What a task reads is known again: by content, whatever machine, time or name."""

import json
import os
import shutil
from pathlib import Path

import pytest

from halting import UsageError
from training.tasks import Parity, TextBytes
from training.tasks.data_identity import DataIdentity, FileDigest
from training.tasks.kept_data import KeptData


def corpus(folder: Path, number: int = 3) -> Path:
    folder.mkdir()
    for each in range(number):
        (folder / f"{each}.txt").write_text(f"text {each} " * 40)
    return folder


def identity_of(path: Path) -> DataIdentity:
    return TextBytes(str(path), length=3).identity()


def test_copies_at_other_places_and_times_are_the_same(tmp_path: Path):
    first = corpus(tmp_path / "first")
    second = shutil.copytree(first, tmp_path / "second")
    os.utime(second / "0.txt", (0, 0))
    (second / ".hidden").touch()
    one, other = identity_of(first), identity_of(second)
    assert one.digest == other.digest and one.facts() == other.facts()
    assert other.changes(one) == {}
    assert DataIdentity.of_values(json.loads(json.dumps(one.values()))) == one


@pytest.mark.parametrize("change", ["content", "size", "added", "removed", "renamed"])
def test_every_change_is_named(tmp_path: Path, change: str):
    folder = corpus(tmp_path / "folder")
    before = identity_of(folder)
    kept = KeptData("runs/a", "TextBytes", before)
    path = folder / "1.txt"
    text = path.read_text()
    if change == "content":
        path.write_text(text.replace("text", "Text", 1))
    elif change == "size":
        path.write_text(text + "!")
    elif change == "added":
        (folder / "new.txt").write_text("new")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(folder / "other.txt")
    now = identity_of(folder)
    assert now.digest != before.digest and now.facts() != before.facts()
    with pytest.raises(UsageError, match="has changed") as refused:
        kept.check(now)
    then, there = next(iter(now.changes(before).values()))
    assert str(folder / ("new.txt" if change == "added" else "1.txt")) in refused.value.what
    for digest in (then, there):
        assert ("not there" if digest is None else digest.sampled) in refused.value.what
    assert ("So is other.txt." in refused.value.what) == (change == "renamed")
    assert "--allow-changed-data" in refused.value.write
    KeptData("runs/a", "TextBytes", before, allow_changed=True).check(now)


def test_the_name_of_an_only_file_does_not_count(tmp_path: Path):
    first = corpus(tmp_path / "one", 1) / "0.txt"
    other = shutil.copyfile(first, tmp_path / "renamed.txt")
    assert identity_of(other).digest == identity_of(first).digest
    assert identity_of(other).changes(identity_of(first)) == {}
    other.write_text("other " * 40)
    assert identity_of(other).changes(identity_of(first))


def test_large_files_are_sampled_unless_all_is_asked_for():
    data = bytearray(65 << 20)
    sampled, full = FileDigest.of(bytes(data)), FileDigest.of(bytes(data), full=True)
    assert sampled.full is None and full.full is not None and sampled.is_that_of(full)
    data[100_000] = 1  # between two samples
    assert sampled.is_that_of(FileDigest.of(bytes(data)))
    assert not full.is_that_of(FileDigest.of(bytes(data), full=True))
    data[0] = data[-1] = 1  # in the first and the last one
    assert not sampled.is_that_of(FileDigest.of(bytes(data)))
    small = FileDigest.of(b"abc")
    assert not small.is_that_of(FileDigest.of(b"abd")) and small.is_that_of(
        FileDigest.of(b"abc", full=True)
    )


def test_ranks_compare_many_files_by_their_sum():
    files = {f"{number}.txt": FileDigest.of(b"%d" % number) for number in range(300)}
    facts = json.loads(DataIdentity("/data", files).facts())
    assert facts["files"] == 300 and facts["bytes"] == sum(each.size for each in files.values())
    other = {**files, "7.txt": FileDigest.of(b"8")}
    assert json.loads(DataIdentity("/data", other).facts()) == {
        **facts,
        "digest": DataIdentity("/data", other).digest,
    }


def test_a_task_that_reads_nothing_has_none():
    task = Parity()
    assert task.identity() is None and task.vocabulary() is None
    assert task.says() is None and task.warnings() == ()


def test_kept_data_are_read_once_an_example_is_asked_for(tmp_path: Path):
    folder = corpus(tmp_path / "folder")
    kept = KeptData("runs/a", "TextBytes", identity_of(folder))
    shutil.rmtree(folder)
    task = TextBytes(str(folder), length=3, kept_data=kept)
    assert task.decode(task.encode("abc")) == ["a", "b", "c"]
    with pytest.raises(UsageError, match="cannot be found"):
        task.batch("train", 0, 1)
