"""Corpora that cannot be read are refused in three parts, with the place; nothing is left."""

import errno
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from token_folders import prepared, texts, write_lines

from halting import UsageError
from training.console import extras
from training.data import token_writer
from training.data.segments import LONGEST_LINE, SEGMENT, Reading, segments
from training.data.sources import find_sources
from training.data.tokenizer import Bytes, bpe_size

GOOD = json.dumps({"text": "so long and thanks"}).encode() + b"\n"
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": ("a.txt", b"fine\nalso fine\nna\xefve and more\n", r"line 3, byte 17 \(0xef\)"),
    "not UTF-8, far in": (
        "a.txt",
        b"one line\n" * 300_000 + b"\xff",
        r"line 300001, byte 2700000 \(0xff\)",
    ),
    "a NUL": ("a.txt", b"abc\0def", r"byte 3 \(0x00\).*NUL"),
    "UTF-16": ("a.txt", "long enough".encode("utf-16"), "UTF-16LE.*iconv"),
    "cut within a character": ("a.txt", "naïve".encode()[:3] + b"", "ends within a character"),
    "gzip by another name": ("a.txt", gzip.compress(b"abc" * 100), "compressed with gzip"),
    "no gzip": ("a.txt.gz", b"plain text", "cannot be unpacked"),
    "half a gzip": ("a.txt.gz", gzip.compress(b"abcdef" * 99)[:-9], "cannot be unpacked"),
    "no zstd": ("a.txt.zst", b"plain text", "cannot be unpacked"),
    "no Parquet": ("a.parquet", b"plain text", "is no Parquet file"),
    "bad JSON": ("a.jsonl", GOOD * 2 + b'{"text": nothing}\n', r"a.jsonl, line 3 is not JSON"),
    "JSON cut off": ("a.jsonl", GOOD + GOOD[:12], r"line 2 is not JSON.*cut off"),
    "nested": ("a.jsonl", b"[" * 100_000, "line 1 is not JSON: nested too deeply"),
    "no object": ("a.jsonl", b'["text"]\n', r'line 1 is no JSON object: \["text"\]'),
    "a missing field": ("a.jsonl", GOOD + b'\n{"body": "x"}\n', "line 3 has no text; it has body"),
    "a field that is no text": ("a.jsonl", b'{"text": 7}\n', "line 1: its text is 7"),
    "JSON that is not UTF-8": ("a.jsonl", GOOD + b'{"text": "na\xefve"}\n', r"line 2.*byte 12"),
    "half a surrogate pair": (
        "a.jsonl",
        rb'{"text": "a\ud800b"}',
        "surrogate pair, as character 1",
    ),
    "a NUL in JSON": ("a.jsonl", rb'{"text": "ab\u0000"}', "a NUL, as character 2"),
    "an empty file": ("a.txt", b"", "holds no text"),
    "blank lines": ("a.jsonl", b"\n\n \n", "holds no text"),
    "too little": ("a.txt", b"tiny", "holds 4 bytes"),
}


def says_three_parts(error: UsageError) -> bool:
    return all(part.strip() for part in (error.what, error.why, error.write))


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, case: str):
    name, data, match = BAD_FILES[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=match) as refused:
        prepared(tmp_path / "out", tmp_path / name)
    assert says_three_parts(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("corpus", "match"),
    [
        ("nowhere.txt", "cannot be found"),
        ("*.nothing", "matches no file"),
        ("empty", "holds no file"),
        ("/dev/null", "no file and no folder"),
        ("a\nb", "The corpus"),
        ("", "The corpus"),
    ],
)
def test_a_corpus_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: str, match: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=match) as refused:
        prepared(tmp_path / "out", corpus)
    assert says_three_parts(refused.value)


@pytest.mark.parametrize("asked", ["bpe", "bpe:", "bpe:256", "bpe:many", "bpe:-5", "bpe:99999999"])
def test_a_vocabulary_that_cannot_be_is_refused(asked: str):
    with pytest.raises(UsageError, match=f"--tokenizer {asked}"):
        bpe_size(asked)


@pytest.mark.parametrize(
    ("text", "match"),
    [(None, "cannot be read"), ("{}", "is no tokenizer"), ("no JSON", "is not JSON")],
)
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, text: str | None, match: str):
    corpus = write_lines(tmp_path / "a.jsonl", texts(100))
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=match):
        prepared(tmp_path / "out", corpus, tokenizer=str(path))


@pytest.mark.parametrize("shares", [(1, 0, 0), (1, 1, -1), (1, 1, float("nan"))])
def test_shares_that_cannot_be_are_refused(tmp_path: Path, shares: tuple[float, float, float]):
    with pytest.raises(UsageError, match="--split"):
        prepared(tmp_path / "out", write_lines(tmp_path / "a.jsonl", texts(9)), shares=shares)


@pytest.mark.parametrize(
    ("extra", "name"), [("bpe", None), ("zstd", "a.zst"), ("parquet", "a.parquet")]
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, name: str | None
):
    monkeypatch.setitem(extras._PACKAGES, extra, ("no_such_package", "It does something"))
    corpus = write_lines(tmp_path / (name or "a.jsonl"), texts(100))
    with pytest.raises(UsageError, match=rf"pip install 'ponderloop\[{extra}\]'"):
        prepared(tmp_path / "out", corpus, tokenizer="bytes" if name else "bpe:300")


def test_files_of_folders_that_are_no_text_are_left_out_and_told(tmp_path: Path):
    folder = tmp_path / "corpus"
    for number, text in enumerate(texts(60)):
        (folder / f"{number}.txt").parent.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(text)
    (folder / "late.txt").write_bytes(b"text\n" * SEGMENT + b"\xff\xfe\xfd")
    (folder / "picture.png").write_bytes(bytes(range(256)) * 9)
    manifest = prepared(tmp_path / "out", folder)
    assert manifest.values["left_out"] == 2
    assert manifest.values["documents"] == 60


@pytest.mark.parametrize(("errors", "text"), [("replace", "na�ve �"), ("skip", "nave ")])
@pytest.mark.parametrize("lines", [False, True])
def test_bytes_that_are_no_text_are_replaced_or_dropped(
    tmp_path: Path, errors: str, text: str, lines: bool
):
    path = tmp_path / ("a.jsonl" if lines else "a.txt")
    path.write_bytes(rb'{"text": "na\ud800ve \u0000"}' if lines else b"na\xefve \0")
    (source,) = find_sources([str(path)])
    reading = Reading(errors=errors)  # pyright: ignore[reportArgumentType]
    (segment,) = segments(source, reading)
    assert segment.text.decode() == text


def test_a_line_of_fifty_megabytes_is_a_document(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"word " * (50 * SEGMENT // 5))
    (source,) = find_sources([str(path)])
    found = list(segments(source, Reading()))
    assert all(len(segment.text) <= SEGMENT for segment in found)
    assert [segment.first for segment in found] == [True] + [False] * (len(found) - 1)
    assert [segment.last for segment in found] == [False] * (len(found) - 1) + [True]
    assert sum(len(segment.text) for segment in found) == path.stat().st_size


def test_a_line_of_json_that_no_memory_should_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert LONGEST_LINE >= 100e6
    monkeypatch.setattr("training.data.segments.LONGEST_LINE", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(GOOD + b'{"text": "' + b"x" * (1 << 20) + b'"}\n')
    with pytest.raises(UsageError, match=r"line 2 has more than 1 MiB") as refused:
        prepared(tmp_path / "out", tmp_path / "a.jsonl")
    assert says_three_parts(refused.value)


def test_a_full_disk_is_said_and_work_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = write_lines(tmp_path / "a.jsonl", texts(100))

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(token_writer.TokenWriter, "save", full)
        with pytest.raises(UsageError, match=r"No space left.*out\.unfinished.*goes on") as refused:
            prepared(tmp_path / "out", corpus)
    assert says_three_parts(refused.value)
    assert (tmp_path / "out.unfinished" / "plan.json").exists()
    assert prepared(tmp_path / "out", corpus).values["documents"] == 100


def test_an_output_that_cannot_be_is_refused(tmp_path: Path):
    corpus = write_lines(tmp_path / "a.jsonl", texts(100))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        prepared(tmp_path / "file", corpus)
    with pytest.raises(UsageError, match="cannot be written"):
        prepared(tmp_path / "file" / "below", corpus)


@pytest.mark.parametrize("pattern", [bytes, lambda data: data[:-1]], ids=["whole", "cut"])
def test_every_cut_falls_between_characters(tmp_path: Path, pattern: Callable[[bytes], bytes]):
    data = pattern(("aπ€𝄞" * 300_000 + "!").encode())
    (tmp_path / "a.txt").write_bytes(data)
    (source,) = find_sources([str(tmp_path / "a.txt")])
    found = [segment.text for segment in segments(source, Reading())]
    assert b"".join(found) == data and len(found) > 2
    assert "".join(text.decode() for text in found).encode() == data
    assert Bytes().encode(found[0].decode()).tolist() == list(found[0])
