"""Rows are found again where they still count, and no row is lost."""

import json
from pathlib import Path

import pytest

from benchmarks.harness import rows
from benchmarks.harness.hardware import hardware
from benchmarks.harness.rows import RESULTS, Rows, read


def test_the_newest_row_of_this_code_is_found(tmp_path: Path):
    path = tmp_path / "new folder" / "rows.jsonl"
    Rows(path, "before").add({"name": "a", "value": 1})
    now = Rows(path, "now")
    assert now.find(name="a") is None and now.newest(name="a") is not None
    now.add({"name": "a", "value": 2})
    last = now.add({"name": "a", "value": 3})
    assert now.find(name="a") == last == Rows(path, "now").find(name="a")
    assert last == {"name": "a", "value": 3, "code": "now", **hardware()}
    assert now.find(name="b") is None and now.find(other=None) is None
    assert len(read(path)) == 3


def test_another_machine_counts_unless_it_is_about_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "rows.jsonl"
    with monkeypatch.context() as elsewhere:
        there = {**hardware(), "processor": "another"}
        elsewhere.setattr(rows, "hardware", lambda: there)
        Rows(path, "now").add({"name": "a"})
    assert Rows(path, "now").find(name="a") is not None
    assert Rows(path, "now", same_machine=True).find(name="a") is None
    before = {**hardware(), "date": "2020-01-01"}
    monkeypatch.setattr(rows, "hardware", lambda: before)
    added = Rows(path, "now", same_machine=True).add({"name": "a"})
    monkeypatch.undo()
    assert Rows(path, "now", same_machine=True).find(name="a") == added, "the day does not matter"


def test_again_forgets_what_is_there_and_keeps_it_in_the_file(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    Rows(path, "now").add({"name": "a"})
    again = Rows(path, "now", again=True)
    assert again.find(name="a") is None
    assert again.add({"name": "a"}) == again.find(name="a") and len(read(path)) == 2


def test_without_a_file_rows_last_as_long_as_the_benchmark():
    kept = Rows(None, "now")
    assert kept.add({"name": "a"}) == kept.find(name="a")


def test_a_line_that_was_cut_off_costs_no_other_row(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    Rows(path, "now").add({"name": "a"})
    with path.open("a") as file:
        file.write('{"name": "cut o')
    Rows(path, "now").add({"name": "b"})
    assert [row["name"] for row in read(path)] == ["a", "b"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_line_of_the_results_is_a_row(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == read(path)
    assert all({"processor", "torch", "date"} <= row.keys() for row in read(path))
