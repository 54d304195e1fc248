"""Rules are held to their targets by their worst seed."""

import json
from pathlib import Path

import pytest

from benchmarks.harness.report import exit_code, write
from benchmarks.harness.rows import Row
from benchmarks.rules.benchmark import against_targets, main, table
from benchmarks.rules.cases import CASES
from halting.errors import UsageError


def row(name: str, **values: float | None) -> Row:
    usual = {
        "accuracy": 0.99,
        "ponder": 2.0,
        "executed_training": 3.0,
        "executed_evaluation": 2.0,
        "seconds": 9.0,
    }
    return {
        "name": name,
        **usual,
        "tokens": 0.5,
        "ponder_of_tokens": 0.4,
        "sequences": 0.3,
        **values,
    }


def test_the_worst_seed_is_held_against_the_target(tmp_path: Path):
    act = next(case for case in CASES if case.name == "GravesACT")
    rows = [row("GravesACT"), row("GravesACT", accuracy=0.97, tokens=-0.1, seconds=301.0)]
    figures = against_targets([act], rows)
    assert [figure.met for figure in figures] == [False, False, False] and exit_code(figures) == 1
    assert exit_code(against_targets([act], rows[:1])) == 0
    assert not against_targets([act], [row("GravesACT", tokens=None)])[2].met, (
        "a correlation that is not defined"
    )
    write(figures, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())[0] == {
        "figure": "GravesACT: accuracy",
        "value": 0.97,
        "target": "≥ 0.98",
        "met": False,
    }
    assert table([act], rows)[1] == [
        (
            "GravesACT",
            "0.9700 … 0.9900",
            "2.00",
            "3.00",
            "2.00",
            "-0.10 … 0.50",
            "tokens",
            "9 … 301",
            "2",
        )
    ]


def test_rules_that_let_a_sequence_go_are_held_to_its_difficulty():
    judged = {case.name: against_targets([case], [row(case.name)])[-1].value for case in CASES}
    assert judged["QHalt"] == judged["CorrectnessHalt"] == 0.3
    assert judged["UniversalTransformerACT"] == 0.4 and judged["PonderNet"] == 0.5
    assert judged["FixedSteps"] == 9.0, "a fixed depth follows nothing"


def test_an_unknown_rule_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--rules", "NoSuchRule"])
    assert "there is no case NoSuchRule" in capsys.readouterr().err


def test_rows_of_an_earlier_command_are_still_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A kept row is named by who and which seed; that its command was another one is told."""
    earlier = {**row("GravesACT"), "seed": 0, "commands": ["ponder train as it was"]}
    (tmp_path / "rules.jsonl").write_text(json.dumps(earlier) + "\n")
    words = ["--kept", "--seeds", "1", "--results", str(tmp_path), "--rules"]
    assert main([*words, "GravesACT"]) == 0
    assert "1 by other code than this, 1 by another command" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no row of 'PonderNet', seed 0"):
        main([*words, "PonderNet"])
