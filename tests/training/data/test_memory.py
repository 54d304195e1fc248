"""A corpus is never in memory, whatever it is made of."""

import json
import tracemalloc
from pathlib import Path

import pytest
from token_folders import prepared

from training.data.sample import Sample
from training.data.segments import SEGMENT, Segment

SIZE = 24 << 20


def many_lines(path: Path) -> None:
    with path.open("w") as file:
        for number in range(SIZE // 2048):
            file.write(json.dumps({"text": f"{number} " + "so long " * 255}) + "\n")


def one_line(path: Path) -> None:
    with path.open("w") as file:
        for number in range(SIZE // 2048):
            file.write(f"{number} " + "so long " * 255)


@pytest.mark.parametrize(
    ("name", "write", "least"), [("a.jsonl", many_lines, "document"), ("a.txt", one_line, "cuts")]
)
def test_half_of_a_corpus_is_more_than_is_ever_held(
    tmp_path: Path, name: str, write: object, least: str
):
    path = tmp_path / name
    write(path)  # pyright: ignore[reportCallIssue]
    assert path.stat().st_size > SIZE * 0.9
    tracemalloc.start()
    try:
        manifest = prepared(tmp_path / "out", path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert manifest.values["split_by"] == least
    assert peak < SIZE // 2
    assert SEGMENT < SIZE // 20


def test_a_sample_is_bounded_and_the_same_in_any_order():
    segments = [Segment(f"{number} ".encode() * 50, True, True) for number in range(3000)]

    def taken(given: list[Segment], seed: int = 0) -> list[str]:
        sample = Sample(20_000, seed)
        for segment in given:
            sample.add(segment)
        return sample.take()

    texts = taken(segments)
    assert 20_000 <= sum(map(len, texts)) < 20_000 + 300
    assert taken(segments[::-1]) == texts
    assert taken([*segments, *segments]) == texts
    assert taken(segments, 1) != texts
    assert sorted(taken(segments[:5])) == sorted(segment.text.decode() for segment in segments[:5])
