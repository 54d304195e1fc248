"""The benchmark of unequal ranks: what hangs or crashes is named, the rest goes on, and no process
stays behind."""

import os
from pathlib import Path

import psutil
import pytest

from benchmarks.harness.report import exit_code
from benchmarks.unequal.benchmark import against_targets, all_cases, main, table
from benchmarks.unequal.case import Case
from benchmarks.unequal.watch import run_all

GOOD = Case(ranks=1, stage=0, accumulation=1, backprop="full", optimizer="SGD", updates=2)
INDIVISIBLE = Case(ranks=1, stage=0, accumulation=3, backprop="full", optimizer="SGD", updates=2)


def children() -> set[psutil.Process]:
    return set(psutil.Process(os.getpid()).children(recursive=True))


@pytest.fixture
def before() -> set[psutil.Process]:
    """Processes that earlier tests in this worker left running, such as the compiler's pool of
    torch.compile."""
    return children()


def test_a_case_without_a_sign_of_life_is_named_as_hung_and_ended(
    before: set[psutil.Process], capsys: pytest.CaptureFixture[str]
):
    ((case, row),) = run_all([GOOD], limit=0.5)  # it takes longer than that to start
    assert case == GOOD and row["outcome"] == "hung" and row["name"] == GOOD.name
    assert GOOD.name in capsys.readouterr().err
    assert not children() - before


def test_after_a_crash_the_rest_goes_on(before: set[psutil.Process]):
    (_, crashed), (_, ran) = run_all([INDIVISIBLE, GOOD], limit=120)
    assert (crashed["outcome"], ran["outcome"]) == ("crashed", "ran")
    assert ran["gradients"] <= 1e-6 and ran["losses"] <= 1e-5 and ran["astray"] == 0
    assert not children() - before
    figures = against_targets([crashed, ran])
    assert figures[0].value == 1 and exit_code(figures) == 1
    assert table([crashed, ran])[1] == [("1, ZeRO-0, full", "1 of 2", *["–"] * 4)]


@pytest.mark.parametrize("figure", ["gradients", "parameters", "losses", "astray"])
def test_a_missed_target_is_told(figure: str):
    rows = [
        {
            "outcome": "ran",
            "optimizer": name,
            "gradients": 0.0,
            "parameters": 0.0,
            "losses": 0.0,
            "astray": 0,
        }
        for name in ("SGD", "AdamW")
    ]
    assert exit_code(against_targets(rows)) == 0
    for row in rows:
        row[figure] = 1
    assert [each.met for each in against_targets(rows)].count(False) == 1


def test_every_combination_is_there():
    cases = all_cases((2, 3), 300)
    assert len(set(cases)) == len(cases) == 2 * 4 * 2 * 3 * 2


def test_an_unknown_number_of_ranks_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with pytest.raises(SystemExit):
        main(["--ranks", "5", "--json", str(tmp_path / "figures.json")])
    assert "--ranks" in capsys.readouterr().err and not list(tmp_path.iterdir())
