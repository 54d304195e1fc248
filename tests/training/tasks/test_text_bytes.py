"""Text: the next byte is asked for, files are split whole, and a text that cannot be used is
refused."""

import gzip
import os
import sysconfig
from pathlib import Path

import pytest
import torch

from halting import UsageError
from training.tasks import SPLITS, TextBytes
from training.tasks.corpus import Errors


def write(folder: Path, **files: str | bytes) -> str:
    for name, data in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(folder)


def test_the_next_byte_is_asked_for(tmp_path: Path):
    data = "".join(chr(0x100 + i % 700) for i in range(3000)).encode()
    (tmp_path / "a.txt").write_bytes(data)
    task = TextBytes(str(tmp_path / "a.txt"), length=30)
    cuts = [0, len(data) * 90 // 100, len(data) * 95 // 100, len(data)]
    for number, split in enumerate(SPLITS):
        part = data[cuts[number] : cuts[number + 1]]
        assert task.corpus[split].tobytes() == part
        batch = task.batch(split, 0, 50)
        assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])
        assert batch.difficulty.isnan().all() and batch.valid.all()
        for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
            assert bytes([*tokens, targets[-1]]) in part


def test_windows_reach_both_ends(tmp_path: Path):
    text = "".join(chr(ord("a") + number % 26) for number in range(100))
    task = TextBytes(write(tmp_path, only=text), length=3)
    validation = task.corpus["validation"].tolist()
    batch = task.batch("validation", 0, 50)
    assert len(validation) == 5
    assert {tuple(row) for row in batch.tokens.tolist()} == {
        tuple(validation[:3]),
        tuple(validation[1:4]),
    }
    assert batch.targets.max() == validation[4]


def test_files_are_split_whole_and_stay_in_their_split(tmp_path: Path):
    files = {f"d{number % 7}__f{number}.txt": f"<{number:03d}>" * 5 for number in range(200)}
    corpus = TextBytes(write(tmp_path, **files), length=8).corpus
    texts = {split: corpus[split].tobytes().decode() for split in SPLITS}
    where = {text: [split for split in SPLITS if text in texts[split]] for text in files.values()}
    assert all(len(splits) == 1 for splits in where.values())
    assert sum(map(len, texts.values())) == sum(map(len, files.values()))
    shares = [len(texts[split]) / 5000 for split in SPLITS]
    assert shares[0] == pytest.approx(0.9, abs=0.06) and min(shares) > 0.01
    later = TextBytes(
        write(tmp_path, **{f"new{number}": "!" * 25 for number in range(50)}), length=8
    ).corpus
    for split in SPLITS:
        assert later[split].tobytes().decode().replace("!", "") == texts[split]


def test_only_visible_texts_of_a_folder_are_read(tmp_path: Path):
    folder = write(
        tmp_path,
        b__one="b" * 100,
        a="a" * 300,
        **{
            ".git__config": "secret" * 50,
            ".hidden": "secret" * 50,
            "latin.txt": b"\xe9" * 50,
            "nul.bin": b"\0" * 50,
        },
    )
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    corpus = TextBytes(folder, length=10).corpus
    assert b"".join(corpus[split].tobytes() for split in SPLITS) == b"a" * 300 + b"b" * 100


HALF = ("plain text " * 30).encode()
TROUBLE = {
    "stray": (HALF + b"Don\x92t " + HALF, "’ (right single quotation mark)", "Write ’ there"),
    "cut": (HALF + "café".encode()[:-1], "1 of its 2 bytes", "head -c"),
    "nul": (HALF + b"\0" + HALF, "one NUL byte", "tr -d"),
    "latin": (HALF + "café crème".encode("latin-1"), "Windows-1252", "iconv -f WINDOWS-1252"),
    "utf16": (HALF.decode().encode("utf-16"), "UTF-16LE", "iconv -f UTF-16"),
    "gz": (gzip.compress(bytes(range(256)) * 9), "gzip", "gzip -dc"),
    "binary": (bytes(range(256)) * 9, "binary", "Leave"),
}
READ = ("stray", "cut", "nul", "latin")  # with --data.errors replace or skip


@pytest.mark.parametrize("errors", ["strict", "replace", "skip"])
@pytest.mark.parametrize("name", TROUBLE)
def test_each_trouble_has_its_own_remedy(tmp_path: Path, name: str, errors: Errors):
    data, says, fix = TROUBLE[name]
    path = tmp_path / f"{name}.txt"
    path.write_bytes(data)
    if errors == "strict" or name not in READ:
        with pytest.raises(UsageError) as refused:
            TextBytes(str(path), length=3, errors=errors)
        assert "is not text in UTF-8 from line 1, byte" in refused.value.what
        assert says in refused.value.why and fix in refused.value.write
        assert ("--data.errors replace" in refused.value.write) == (name in READ)
        return
    task = TextBytes(str(path), length=3, errors=errors)
    text = b"".join(task.corpus[split].tobytes() for split in SPLITS).decode()
    number = 2 if name == "latin" else 1
    assert text.count("\ufffd") == (number if errors == "replace" else 0)
    assert text.replace("\ufffd", "").isascii() and "\0" not in text
    [warning] = task.warnings()
    assert warning.startswith(f"{number} place") and path.name in warning


def test_what_a_folder_leaves_out_is_counted_and_named(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(5):
        (folder / f"a{number}.txt").write_bytes(HALF + b"\r\n")
        (folder / f"b{number}.txt").write_bytes(HALF + "café crème".encode("latin-1"))
    (folder / "c.txt").write_bytes(TROUBLE["gz"][0])
    (folder / ".git").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "d.txt").write_bytes(HALF)
    (folder / "more").symlink_to("../beside")
    (folder / "linked.txt").symlink_to("../beside/d.txt")
    (folder / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    task = TextBytes(str(folder), length=3)
    assert task.says().startswith("read 6 texts, 1.99 kB; CRLF line ends are kept, in a0.txt, a1")
    assert task.says().endswith("hidden, and not read: .git")
    said = {line.partition(":")[0]: line for line in task.warnings()}
    assert set(said) == {
        "left out 5 files in another encoding",
        "left out 1 compressed file",
        "left out 1 linked folder",
        "left out 1 link that leads nowhere",
        "left out 1 device or pipe",
    }
    encoded = said["left out 5 files in another encoding"]
    assert "b0.txt, b1.txt, b2.txt and 2 more" in encoded and "iconv" in encoded
    assert "more" in said["left out 1 linked folder"]
    both = TextBytes(str(folder), length=3, errors="replace")
    assert both.says().startswith("read 11 texts")
    assert "10 places without valid UTF-8 replaced by U+FFFD" in both.warnings()[0]
    for path in folder.glob("a*.txt"):
        path.unlink()
    (folder / "linked.txt").unlink()
    with pytest.raises(UsageError, match="holds no text") as refused:
        TextBytes(str(folder), length=3)
    assert "Left out 5 files in another encoding" in refused.value.why


def test_a_mark_is_read_over_and_line_ends_stay(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\n" * 30)
    task = TextBytes(str(tmp_path / "a.txt"), length=3)
    text = b"".join(task.corpus[split].tobytes() for split in SPLITS)
    assert text == b"one\r\ntwo\n" * 30 and task.warnings() == ()


def test_the_default_is_the_standard_library_without_its_tests():
    task = TextBytes()
    whole = b"".join(task.corpus[split].tobytes() for split in SPLITS)
    library = Path(sysconfig.get_path("stdlib"))
    assert all(
        (library / name).read_bytes() in whole for name in ("argparse.py", "json/decoder.py")
    )
    left_out = [path for path in library.glob("test/test_*.py") if path.stat().st_size > 2000]
    assert not any(path.read_bytes() in whole for path in left_out[:3])
    assert [len(task.corpus[split]) > 100_000 for split in SPLITS] == [True] * 3
    assert task.causal and task.difficulty_name is None
    assert task.batch("train", 0, 1).difficulty.isnan().all()


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "missing.txt", "cannot be found"),
        ({}, ".", "holds no text"),
        ({"empty": ""}, "empty", "holds no text"),
        ({"short": "x" * 2500}, "short", "holds 2500 bytes"),
        ({"binary": b"\xff\xfe\0" * 9999}, "binary", "not text in UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(
    tmp_path: Path, files: dict, path: str, message: str
):
    write(tmp_path, **files)
    with pytest.raises(UsageError, match=message) as caught:
        TextBytes(str(tmp_path / path))
    assert f"--data.text {tmp_path / path}" in caught.value.what


def test_the_shortest_text_named_in_the_error_is_enough(tmp_path: Path):
    with pytest.raises(UsageError, match="at least 2580 bytes"):
        TextBytes(write(tmp_path, only="x" * 2500))
    assert len(TextBytes(write(tmp_path, only="x" * 2580)).corpus["validation"]) == 129


@pytest.mark.parametrize("path", ["", "no\0path", "~nobody-has-this-name/x", "x" * 5000])
def test_paths_that_no_file_can_have_are_refused(path: str):
    with pytest.raises(UsageError, match=r"--data\.text"):
        TextBytes(path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs the proc file system")
def test_an_unreadable_file_is_named(tmp_path: Path):
    folder = write(tmp_path, a="a" * 5000)
    (tmp_path / "memory").symlink_to(
        "/proc/self/mem"
    )  # reading its first byte fails for every user
    with pytest.raises(UsageError, match="memory cannot be read"):
        TextBytes(folder)


def test_bytes_are_shown_and_read():
    task = TextBytes(__file__)
    assert task.encode("é\n") == [0xC3, 0xA9, 0x0A]
    assert task.decode([0x41, 0x20, 0x0A, 0x09, 0xC3, 0x00, 0x7F]) == [
        "A",
        " ",
        "\n",
        "\t",
        "\\xc3",
        "\\x00",
        "\\x7f",
    ]
    assert task.encode(os.fsdecode(b"\xff")) == [0xFF]
    plain = "def f(x):\n\treturn x"
    assert "".join(task.decode(task.encode(plain))) == plain
    with pytest.raises(UsageError, match="surrogate"):
        task.encode("\ud800")
