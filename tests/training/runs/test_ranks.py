"""What each rank did: told on one line, summed over a run."""

import json
import math
import time

import pytest
import torch

from training.runs.rank_report import RankReport, Ranks

FIRST = RankReport([30.0, 60.0], [20.0, 20.0], [1.0, 2.0], [1.5, 0.5], 0.75, 0.8)
SECOND = RankReport([40.0, 40.0], [20.0, 20.0], [2.0, 2.0], [0.0, 0.0], 1.0, 1.0)


def write(folder, *reports: RankReport) -> None:
    lines = [
        json.dumps({"kind": "ranks", "update": number, **each.values()})
        for number, each in enumerate(reports)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_line_holds_the_least_and_the_most():
    assert FIRST.line() == (
        "2 ranks: steps 1.50 … 3.00  computing 1.0 … 2.0 s  waiting 0.5 … 1.5 s (40%)  token-steps "
        "even to 75.0%"
    )


def test_a_gpu_tells_no_seconds():
    nothing = [math.nan, math.nan]
    assert RankReport([3.0, 3.0], [3.0, 3.0], nothing, nothing, 1.0, math.nan).line() == (
        "2 ranks: steps 1.00  token-steps even to 100.0%"
    )


def test_a_run_is_the_sum_of_its_stretches(tmp_path):
    write(tmp_path, FIRST, SECOND)
    whole = RankReport.over_run(tmp_path)
    assert whole is not None
    assert whole.steps == [70, 100] and whole.computing == [3, 4] and whole.waiting == [1.5, 0.5]
    assert whole.evenness == pytest.approx((90 + 80) / (120 + 80))
    write(tmp_path, RankReport([1.0] * 3, [1.0] * 3, [1.0] * 3, [0.0] * 3, 1.0, 1.0), SECOND)
    assert RankReport.over_run(tmp_path) == SECOND, "other ranks than those that the run ended with"


def test_a_run_of_one_rank_has_none(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert RankReport.over_run(tmp_path) is None


def test_updates_of_two_ranks_are_even_by_their_slowest():
    ranks = Ranks(torch.device("cpu"))
    ranks.met(torch.tensor([10.0, 30.0, 1.0, 1.0], dtype=torch.float64))
    ranks.met(torch.tensor([30.0, 10.0, 1.0, 3.0], dtype=torch.float64))
    report = ranks.report()
    assert report.evenness == pytest.approx(
        40 / 60
    ) and report.evenness_of_seconds == pytest.approx(3 / 4)


def test_seconds_that_nobody_knows_stay_unknown():
    ranks = Ranks(torch.device("cpu"))
    ranks.met(torch.tensor([10.0, 30.0, math.nan, math.nan], dtype=torch.float64))
    report = ranks.report()
    assert report.evenness == pytest.approx(20 / 30) and math.isnan(report.evenness_of_seconds)


def test_sleeping_is_waiting_and_reckoning_is_computing():
    ranks = Ranks(torch.device("cpu"))
    with ranks.update():
        time.sleep(0.05)
    slept = ranks.report()
    assert slept.waiting[0] >= 0.04 and slept.computing[0] < slept.waiting[0]
    ranks, until = Ranks(torch.device("cpu")), time.thread_time() + 0.05
    with ranks.update():
        while time.thread_time() < until:
            pass
    assert ranks.report().computing[0] >= 0.05
