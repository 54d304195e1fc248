"""What ponder data prepare writes: documents whole and in order, each in one split, none twice."""

import gzip
import io
import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from token_folders import files_of, prepared, texts, write_lines

from halting import UsageError
from training.cli.data import main
from training.data.manifest import read_manifest
from training.data.segments import Reading
from training.data.splitting import SPLITS
from training.data.token_folder import TokenFolder

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
SHAKESPEARE = DATA / "tinyshakespeare" / "input.txt"


def documents_of(folder: Path, split: str) -> list[bytes]:
    """Each document's text, from its tokens."""
    tokens = TokenFolder(folder, str(folder))
    found = tokens.split(split)
    texts = []
    for begin, end in pairwise(found.starts.tolist()):
        row = found.tokens[begin:end].tolist()
        assert row[0] == tokens.tokenizer.mark and tokens.tokenizer.mark not in row[1:]
        texts.append(b"".join(tokens.tokenizer.bytes_of(token) or b"" for token in row))
    assert [len(text) for text in texts] == found.bytes.tolist()
    assert len(found.tokens) == found.starts[-1]
    return texts


def all_documents(folder: Path) -> list[str]:
    return [text.decode() for split in SPLITS for text in documents_of(folder, split)]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_every_document_is_there_once_and_decodes_to_itself(tmp_path: Path, tokenizer: str):
    documents = texts(300)
    corpus = write_lines(tmp_path / "a.jsonl", [*documents, *documents[:40], "", documents[3]])
    manifest = prepared(tmp_path / "out", corpus, tokenizer=tokenizer)
    assert sorted(all_documents(tmp_path / "out")) == sorted(documents)
    values = manifest.values
    assert (values["documents"], values["duplicates"], values["empty"]) == (342, 41, 1)
    assert values["dtype"] == ("uint8" if tokenizer == "bytes" else "uint16")
    assert manifest.has_exact_bytes and values["split_by"] == "document"
    assert sum(manifest.split(split).bytes for split in SPLITS) == sum(
        len(text.encode()) for text in documents
    )
    for split in SPLITS:
        texts_there = documents_of(tmp_path / "out", split)
        assert len(texts_there) == manifest.split(split).documents > 0
        order = [documents.index(text.decode()) for text in texts_there]
        assert order == sorted(order)
    assert read_manifest(tmp_path / "out", "out").values == values
    assert not (tmp_path / "out.unfinished").exists()


def test_duplicates_never_cross_splits_and_a_document_keeps_its_split(tmp_path: Path):
    documents = texts(200)
    first = write_lines(tmp_path / "a.jsonl", documents)
    second = write_lines(tmp_path / "b.jsonl", [*texts(100, seed=1), *reversed(documents)], "body")
    prepared(tmp_path / "one", first)
    prepared(tmp_path / "two", second, reading=Reading(field="body"))
    for split in SPLITS:
        before = set(documents_of(tmp_path / "one", split))
        after = set(documents_of(tmp_path / "two", split))
        assert before == {text for text in after if text.startswith(b"0.")}


def test_shares_are_kept(tmp_path: Path):
    corpus = write_lines(tmp_path / "a.jsonl", texts(3000, most=5))
    manifest = prepared(tmp_path / "out", corpus, shares=(60, 30, 10))
    shares = [manifest.split(split).documents / 3000 for split in SPLITS]
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def test_folders_patterns_compressed_files_and_parquet_hold_the_same(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    zstandard = pytest.importorskip("zstandard")
    parts = [texts(60, seed=seed) for seed in range(4)]
    folder = tmp_path / "corpus"
    write_lines(folder / "a.jsonl", parts[0])
    data = write_lines(tmp_path / "b", parts[1]).read_bytes()
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(data))
    data = write_lines(tmp_path / "c", parts[2]).read_bytes()
    frames = [zstandard.compress(half) for half in (data[:1000], data[1000:])]
    (folder / "c.ndjson.zst").write_bytes(b"".join(frames))
    parquet.write_table(pyarrow.table({"text": parts[3]}), folder / "d.parquet")
    (folder / ".hidden.jsonl").write_text("no JSON")
    wanted = sorted(text for part in parts for text in part)
    prepared(tmp_path / "whole", folder)
    prepared(tmp_path / "globbed", f"{folder}/*", folder / "a.jsonl")
    assert sorted(all_documents(tmp_path / "whole")) == wanted
    assert files_of(tmp_path / "whole").keys() == files_of(tmp_path / "globbed").keys()
    for name, data in files_of(tmp_path / "whole").items():
        assert name == "manifest.json" or files_of(tmp_path / "globbed")[name] == data


def test_text_files_are_documents_or_hold_several(tmp_path: Path):
    documents = [text.replace("\n", " ") for text in texts(90)]
    for number, text in enumerate(documents):
        (tmp_path / "many" / f"{number}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "one.txt").write_text("\n\n".join(documents), encoding="utf-8")
    prepared(tmp_path / "a", tmp_path / "many")
    prepared(tmp_path / "b", tmp_path / "one.txt", reading=Reading(separator="\n\n"))
    assert sorted(all_documents(tmp_path / "a")) == sorted(documents)
    assert sorted(all_documents(tmp_path / "b")) == sorted(documents)


@pytest.mark.parametrize("ending", ["\n", " π"])
def test_one_document_is_cut_and_said_to_be(tmp_path: Path, ending: str):
    text = "".join(f"line {number} naïve{ending}" for number in range(3000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    said = io.StringIO()
    manifest = prepared(tmp_path / "out", tmp_path / "a.txt", said=said)
    assert "the texts are cut" in said.getvalue()
    assert manifest.values["split_by"] == "cuts"
    parts = [b"".join(documents_of(tmp_path / "out", split)) for split in SPLITS]
    assert b"".join(parts).decode() == text
    shares = [len(part) / len(text.encode()) for part in parts]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    if ending == "\n":
        assert all(part.endswith(b"\n") for part in parts)


@pytest.mark.parametrize("size", [160, 200, 1000, 5000])
def test_a_small_document_gives_each_split_something(tmp_path: Path, size: int):
    for number, text in enumerate(("x" * size, "π" * (size // 2), "ab\n" * (size // 3 + 1))):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
        manifest = prepared(tmp_path / f"out{number}", tmp_path / f"{number}.txt")
        assert all(manifest.split(split).bytes > 0 for split in SPLITS)
        whole = [documents_of(tmp_path / f"out{number}", split) for split in SPLITS]
        assert b"".join(part for parts in whole for part in parts).decode() == text


def test_the_workers_change_no_byte(tmp_path: Path):
    corpus = write_lines(tmp_path / "a.jsonl", texts(2000))
    prepared(tmp_path / "one", corpus, tokenizer="bpe:400")
    prepared(tmp_path / "three", corpus, tokenizer="bpe:400", workers=3)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")


def test_a_tokenizer_of_ones_own(tmp_path: Path):
    first = write_lines(tmp_path / "a.jsonl", texts(200))
    second = write_lines(tmp_path / "b.jsonl", ["spelled <|endoftext|> out", *texts(100, seed=1)])
    prepared(tmp_path / "one", first, tokenizer="bpe:300")
    manifest = prepared(
        tmp_path / "two", second, tokenizer=str(tmp_path / "one" / "tokenizer.json")
    )
    assert "spelled <|endoftext|> out" in all_documents(tmp_path / "two")
    one = (tmp_path / "one" / "tokenizer.json").read_bytes()
    assert (tmp_path / "two" / "tokenizer.json").read_bytes() == one
    assert manifest.has_exact_bytes


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path):
    corpus = write_lines(tmp_path / "a.jsonl", texts(100))
    out = tmp_path / "out"
    prepared(out, corpus)
    with pytest.raises(UsageError, match="exists already"):
        prepared(out, corpus)
    prepared(out, corpus, tokenizer="bpe:300", overwrite=True)
    assert (out / "tokenizer.json").exists()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        prepared(out, corpus, overwrite=True)
    assert (out / "mine.txt").read_text() == "mine"


def test_what_is_in_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    corpus = write_lines(tmp_path / "a.jsonl", texts(100))
    words = ["prepare", str(corpus), "--out", str(tmp_path / "out"), "--workers", "1", "--quiet"]
    assert main(words) == 0
    assert main(["show", str(tmp_path / "out"), "--document", "1"]) == 0
    told = capsys.readouterr().out
    assert "100 documents of 1 file" in told and "document 1 of training" in told
    with pytest.raises(UsageError, match="--document 5000"):
        main(["show", str(tmp_path / "out"), "--document", "5000"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (entry,) = manifest["inputs"]
    assert entry["bytes"] == os.path.getsize(corpus) and entry["documents"] == 100


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="shared/data is not there")
def test_shakespeare_decodes_to_itself(tmp_path: Path):
    manifest = prepared(tmp_path / "out", SHAKESPEARE, tokenizer="bpe:1000", shares=(90, 5, 5))
    assert "".join(all_documents(tmp_path / "out")).encode() == SHAKESPEARE.read_bytes()
    assert manifest.has_exact_bytes
    lengths = TokenFolder(tmp_path / "out", "out").tokenizer.byte_lengths
    tokens = TokenFolder(tmp_path / "out", "out").split("train").tokens
    assert lengths is not None
    assert lengths[np.asarray(tokens)].sum() == manifest.split("train").bytes
