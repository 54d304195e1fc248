"""What a report says of a run."""

import math

import pytest
from small_runs import small

from training.build import build_all
from training.checkpoints.progress import Progress
from training.evaluation.tally import Tally, rank_correlation_of_steps
from training.runs.finish import summarise
from training.runs.rank_report import RankReport
from training.runs.report import run_report


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (
            {"share_as_one": 0.2, "spearman_steps_difficulty": 0.8, "spearman_sequences": 0.1},
            ("tokens", 0.8),
        ),
        (
            {"share_as_one": 1.0, "spearman_steps_difficulty": 0.1, "spearman_sequences": 0.6},
            ("sequences", 0.6),
        ),
        (
            {"share_as_one": 1.0, "spearman_steps_difficulty": 0.1, "spearman_sequences": math.nan},
            ("sequences", None),
        ),
        ({"share_as_one": 0.0}, ("tokens", None)),
    ],
)
def test_steps_are_compared_over_what_leaves_together(figures, told):
    assert rank_correlation_of_steps(figures) == told


def test_a_report_has_a_row_for_each_rank(tmp_path):
    ranks = RankReport(
        [3000.0, 2500.0], [1000.0, 1000.0], [1.0, 2.0], [0.5, math.nan], 0.9, math.nan
    )
    config = small(tmp_path)
    summary = summarise(config, build_all(config), Progress(), Tally(4)) | {
        "by_rank": ranks.values()
    }
    page = run_report(config, summary, tmp_path)
    assert "| 0 | 3.000 | 1,000 | 1.0 | 0.5 |" in page and "| 1 | 2.500 | 1,000 | 2.0 | – |" in page
    assert "even to 90.0%" in page


def test_a_report_tells_the_loss_by_step(tmp_path):
    config = small(tmp_path)
    summary = summarise(config, build_all(config), Progress(), Tally(4))
    assert "## Loss by step" not in run_report(config, summary, tmp_path)
    summary |= {"loss_by_step": [2.0, 1.5, 1.25, 1.25], "by_step_examples": 16}
    page = run_report(config, summary, tmp_path)
    assert "| 1 | 2.0000 |  |" in page and "| 3 | 1.2500 | -0.2500 |" in page
    summary["bits_per_byte_by_step"] = [3.0, 2.5, 2.25, 2.25]
    page = run_report(config, summary, tmp_path)
    assert "| 2 | 2.5000 | -0.5000 |" in page and "bits a byte | against" in page
