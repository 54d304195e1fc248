"""The benchmark of collapses reads run folders as they are, and can miss its targets."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.collapse.benchmark import CASES, against_targets, table
from benchmarks.collapse.measure import measure


def row(name: str, **changes: Any) -> dict[str, Any]:
    known = {
        "name": name,
        "seed": 0,
        "accuracy": 0.999,
        "steps": 2.5,
        "spearman": 0.8,
        "alarms": 0,
        "seconds": 60.0,
    }
    return {
        **known,
        "shallow_from": None,
        "seen_at": None,
        "updates": 1500,
        "recoveries": 0,
        **changes,
    }


def rows(**changes: Any) -> list[dict[str, Any]]:
    healthy, lost, saved = CASES
    found = [
        row(healthy),
        row(lost, steps=1.0, accuracy=0.7, alarms=5, shallow_from=300, seen_at=310),
        row(saved),
    ]
    return [
        each | changes.get(key, {})
        for key, each in zip(("healthy", "lost", "saved"), found, strict=True)
    ]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, 0),
        ({"healthy": {"alarms": 1}}, 1),
        ({"lost": {"steps": 1.5}}, 1),
        ({"lost": {"seen_at": None}}, 1),
        ({"saved": {"accuracy": 0.9, "steps": 1.2}}, 2),
    ],
)
def test_targets_are_met_or_missed(changes: dict[str, Any], missed: int):
    assert sum(not figure.met for figure in against_targets(rows(**changes))) == missed


def test_a_run_folder_is_read_with_what_it_was_taken_back_from(tmp_path: Path):
    def lines(name: str, *found: dict[str, Any]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in found))

    summary = {
        "accuracy": 0.99,
        "mean_steps": 2.0,
        "spearman_steps_difficulty": 0.7,
        "updates": 5,
        "train_seconds": 3.0,
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shallow = {"kind": "train", "update": 2, "mean_steps": 1.0}
    lines(
        "metrics.collapsed-1.jsonl",
        shallow,
        {"kind": "warning", "update": 3, "says": "halting collapsed: …"},
    )
    recovered = {"kind": "warning", "update": 1, "says": "recovering (1 of 4) from …"}
    lines("metrics.jsonl", {"kind": "train", "update": 1, "mean_steps": 2.0}, recovered)
    found = measure([tmp_path])
    assert (found["shallow_from"], found["seen_at"], found["recoveries"], found["alarms"]) == (
        2,
        3,
        1,
        2,
    )
    head, (line,) = table([{"name": "x", "seed": 0, **found}])
    assert len(head) == len(line) and line[:4] == ("x", "0", "0.9900", "2.00")
