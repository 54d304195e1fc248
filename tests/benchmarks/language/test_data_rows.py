"""The data part of benchmarks.language: what it makes, watches and judges."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.language.corpus import make_corpus
from benchmarks.language.data_rows import against_targets, table
from benchmarks.language.watched import watch


def test_the_corpus_has_its_size_and_is_the_same_again(tmp_path: Path):
    number = make_corpus(tmp_path / "a", 400_000, files=2)
    make_corpus(tmp_path / "b", 400_000, files=2)
    files = sorted((tmp_path / "a").iterdir())
    assert [path.read_bytes() for path in files] == [
        path.read_bytes() for path in sorted((tmp_path / "b").iterdir())
    ]
    assert 400_000 <= sum(path.stat().st_size for path in files) < 440_000
    texts = [json.loads(line)["text"] for path in files for line in path.open()]
    assert len(texts) == number and 0.9 * number < len(set(texts)) < number


def test_a_watched_command_is_seen_with_its_children():
    hold = "data = bytearray(60_000_000); import time; time.sleep(1)"
    script = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); print('done')"
    )
    seen = watch([sys.executable, "-c", script], every=0.02)
    assert seen.code == 0 and seen.output == "done\n"
    assert 60_000_000 < seen.peak < 200_000_000
    assert seen.seconds > 1
    assert watch([sys.executable, "-c", "raise SystemExit(3)"]).code == 3


@pytest.mark.parametrize(
    ("peak", "loader", "met"),
    [(4e8, 100_000, [True, True]), (6e8, 100_000, [False, True]), (4e8, 10_000, [True, False])],
)
def test_targets_are_judged(peak: float, loader: int, met: list[bool]):
    row = {"tokenizer": "bytes", "corpus": 10**9, "seconds": 9.0, "processor_seconds": 8.0}
    row |= {"peak_bytes": peak, "loader_rate": loader, "trainer_rate": 1000}
    assert [figure.met for figure in against_targets([row])] == met
    assert len(table([row])[1]) == 1
    assert not any(figure.met for figure in against_targets([{"failed": "out of memory"}]))
