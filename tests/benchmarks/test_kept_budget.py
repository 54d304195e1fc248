"""The figures of `benchmarks.kept_budget`."""

import json
from pathlib import Path

import pytest

from benchmarks.harness.rows import Row
from benchmarks.kept_budget.benchmark import against_targets, measure, targets_table
from training.train import main


def row(rule: str, seed: int, ponder: float, kept: str = "with the weights of update 790") -> Row:
    return {
        "name": f"parity, {rule}, target 2",
        "rule": rule,
        "seed": seed,
        "target": 2.0,
        "ponder": ponder,
        "accuracy": 0.5,
        "kept": kept,
        "says": None,
    }


def test_the_worst_of_all_seeds_counts_and_each_rule_has_its_own_target() -> None:
    rows = [
        row(rule, seed, 2.0 - 0.06 * seed) for rule in ("GravesACT", "PonderNet") for seed in (0, 1)
    ]
    graves, ponder_net = against_targets(rows)
    assert graves.value == pytest.approx(0.03) and not graves.met
    assert ponder_net.value == pytest.approx(0.03) and ponder_net.met


def test_a_moved_exit_is_counted() -> None:
    rows = [
        row("PonderNet", 0, 2.0),
        row("PonderNet", 1, 2.02, "with q 0.6 instead of the trained one"),
    ]
    _, ((name, off, *_, runs, moved, says),) = targets_table(rows)
    assert (name, runs, moved, says) == ("parity, PonderNet, target 2", "2", "1", "")
    assert off == "+0.0 … +1.0"


def test_the_kept_model_is_run_on_the_test_split(tmp_path: Path) -> None:
    words = [
        "parity",
        "--data.length",
        "4",
        "--updates",
        "3",
        "--batch-size",
        "4",
        "--eval-every",
        "3",
    ]
    small = [
        "--eval-examples",
        "8",
        "--test-examples",
        "8",
        "--penalty.target-steps",
        "2",
        "--quiet",
    ]
    assert main([*words, *small, "--output", str(tmp_path), "--name", "run"]) == 0
    found = measure([tmp_path / "run"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert found["target"] == 2 and found["kept"] == summary["budget"]["kept_says"]
    assert found["ponder"] == pytest.approx(summary["mean_ponder"], rel=0.3)
