"""A person's files: the place of the first bad byte, what it looks like, and what is refused in
JSON."""

import gzip

import pytest

from halting import UsageError
from training.console.text_fault import first_fault
from training.console.text_file import read_json, read_text

PLAIN = "The quick brown fox.\n" * 40
AROUND = ("--config FILE", "It is needed.", "runs/a/config.json")


@pytest.mark.parametrize(
    ("data", "kind", "offset", "line", "says", "fix"),
    [
        (PLAIN.encode() + b"Don\x92t caf\xc3\xa9", "stray", 843, 41, "’ (right single", "Write ’"),
        (b"caf\xc3\xa9 \x93 \x94", "stray", 6, 1, "The first of 2 such places", "Write “"),
        (b"\xef\xbb\xbfa\x81\xc3\xa9", "stray", 4, 1, "bytes are missing", "belongs there"),
        (b"ab\xe2\x82cd\xc3\xa9", "stray", 2, 1, "bytes are missing", "belongs there"),
        (b"ab\xed\xa0\x80\xc3\xa9", "stray", 2, 1, "surrogate", "belongs there"),
        ("é ü\n".encode("latin-1") * 9, "one-byte", 0, 1, "Windows-1252", "iconv -f WINDOWS-1252"),
        ("café".encode()[:-1], "cut", 3, 1, "1 of its 2 bytes is there", "head -c 3"),
        (b"caf\xe9", "stray", 3, 1, "é (latin small", "Write é"),
        ("\U0001f469".encode()[:3], "cut", 0, 1, "3 of its 4 bytes are there", "head -c 0"),
        (PLAIN.encode() + b"\0" + PLAIN.encode(), "nul", 840, 41, "one NUL byte", "tr -d"),
        (PLAIN.encode() + bytes(900), "nul", 840, 41, "900 NUL bytes", "tr -d"),
        (PLAIN.encode("utf-16"), "wide", 0, 1, "UTF-16LE, as its", "iconv -f UTF-16 "),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "wide", 0, 1, "UTF-16BE, as", "-f UTF-16 "),
        (PLAIN.encode("utf-16-be"), "wide", 0, 1, "without a byte", "iconv -f UTF-16BE"),
        (PLAIN.encode("utf-32"), "wide", 0, 1, "UTF-32LE", "iconv -f UTF-32 "),
        (gzip.compress(PLAIN.encode()), "compressed", 0, 1, "gzip", "gzip -dc"),
        (b"\x28\xb5\x2f\xfd\xff", "compressed", 0, 1, "zstd", "zstd -dc"),
        (b"PK\x03\x04\xff", "compressed", 0, 1, "zip", "unzip"),
        (bytes(range(256)) * 9, "binary", 0, 1, "binary", "Leave"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place_and_the_remedy_for_it(
    tmp_path, data, kind, offset, line, says, fix
):
    path = tmp_path / "it's here.json"
    path.write_bytes(data)
    fault = first_fault(data)
    assert fault is not None
    assert (fault.kind, fault.offset, fault.line, fault.byte) == (kind, offset, line, data[offset])
    with pytest.raises(UsageError) as refused:
        read_text(path, *AROUND)
    assert f"line {line}, byte {offset} (0x{data[offset]:02x})" in refused.value.what
    assert says in refused.value.why and fix in refused.value.write
    assert "it's here" not in refused.value.write  # a command that can be pasted


@pytest.mark.parametrize(
    "text", ["", PLAIN, "é 你好 \U0001f469", "a\r\nb\r\n", "BZh PK %PDF\t\x1b[m"]
)
def test_text_is_read_as_it_is_and_a_mark_read_over(tmp_path, text):
    path = tmp_path / "a.txt"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + text.encode())
        assert first_fault(path.read_bytes()) is None
        assert read_text(path, *AROUND) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', r"has the key c twice \(1 and 2\)"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": 1,}', "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_json_that_cannot_be_meant_is_refused(tmp_path, text, says):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as refused:
        read_json(path, *AROUND)
    assert refused.value.why and refused.value.write


@pytest.mark.parametrize("name", ["nothing.json", "", "a\0b.json"])
def test_a_file_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="--config FILE cannot be read"):
        read_text(tmp_path / name, *AROUND)
