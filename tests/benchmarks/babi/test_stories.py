"""The figures of ponder by supporting fact, from numbers worked out otherwise."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from scipy import stats

from benchmarks.babi.benchmark import PUBLISHED, against_the_paper, table
from benchmarks.babi.picture import draw
from benchmarks.babi.stories import partial_correlation, stories
from benchmarks.harness.report import exit_code, write


def made_up(name: str = "paper", rise: float = 1.0, seed: int = 0) -> dict:
    """A row: three stories of one fact and 2 positions, two of two and 4, one of three and 5."""
    facts, length = np.array([1.0, 1, 1, 2, 2, 3]), np.array([2.0, 2, 2, 4, 4, 5])
    ponder = 2 + rise * (facts - 1)
    columns = np.stack([facts, length, ponder * length, ponder**2 * length, facts, facts < 3])
    return {"name": name, "seed": seed, **stories(columns)}


def test_positions_are_averaged_not_stories():
    facts, length = np.array([1.0, 1]), np.array([1.0, 3])
    total, squares = np.array([2.0, 12]), np.array([4.0, 50])  # ponders 2 | 3 4 5
    found = stories(
        np.stack([facts, length, total, squares, np.array([2.0, 5]), np.array([1.0, 0])])
    )["by_facts"]["1"]
    assert (found["questions"], found["ponder"], found["length"], found["accuracy"]) == (
        2,
        3.5,
        2,
        0.5,
    )
    assert found["ponder_of_question"] == 3.5
    assert found["deviation"] == pytest.approx(np.std([2, 3, 4, 5]))


def test_the_partial_correlation_is_that_of_what_a_third_rank_leaves():
    random = np.random.default_rng(0)
    held = random.normal(size=200)
    first, second = held + random.normal(size=200), -held + 0.5 * random.normal(size=200)
    ranks = [stats.rankdata(each) for each in (first, second, held)]
    line = np.stack([np.ones(200), ranks[2]], 1)
    left = [rank - line @ np.linalg.lstsq(line, rank)[0] for rank in ranks[:2]]
    assert partial_correlation(first, second, held) == pytest.approx(np.corrcoef(*left)[0, 1])
    assert (
        partial_correlation(first, held, held) is None
        and partial_correlation(first * 0, second, held) is None
    )


def test_a_target_is_met_only_where_ponder_rises_in_every_seed(tmp_path: Path):
    rises = [made_up(name, seed=seed) for name in ("paper", "within a task") for seed in (0, 1)]
    figures = against_the_paper(rises)
    assert [each.value for each in figures] == [pytest.approx(1), pytest.approx(1)] and exit_code(
        figures
    ) == 0
    write(figures, tmp_path / "figures.json")
    falls = [*rises, made_up("paper", rise=-0.5, seed=2)]
    assert [each.met for each in against_the_paper(falls)] == [False, True]
    assert not any(each.met for each in against_the_paper([]))
    assert any(line[0] == "1 2 3: 3" and "3.8 ± 2.2" in line for line in table(falls)[1])
    draw(falls, PUBLISHED, tmp_path / "babi.png")
    pixels = image.imread(tmp_path / "babi.png")
    assert pixels.shape[1] == 1920 and (pixels[-8:] == 1).all() and (pixels[:, -8:] == 1).all()
