"""The simulator of stragglers: exact on counts that are easy to reckon, and its targets can be
missed."""

import numpy as np
import pytest

from benchmarks.harness.report import exit_code
from benchmarks.stragglers.benchmark import against_targets, of_real_ranks, table
from benchmarks.stragglers.counts import Counts, record
from benchmarks.stragglers.measured import MeasuredEfficiency
from benchmarks.stragglers.picture import save_stragglers_picture
from benchmarks.stragglers.simulated import simulate
from training.config.run_config import RunConfig


def counts(steps: np.ndarray, ponder: np.ndarray | None = None) -> Counts:
    """Of a training without difficulty, in whose last third these steps were taken."""
    unknown = np.full(len(steps), np.nan)
    return Counts(
        np.full(len(steps), 9),
        np.array([10]),
        steps,
        np.ones(len(steps)),
        unknown,
        steps if ponder is None else ponder,
    )


def by_way(found) -> dict[str, float]:
    return {each.way: each.recovered for each in found}


def test_even_counts_lose_nothing():
    assert {
        each.efficiency for each in simulate("even", counts(np.full(50, 4)), 8, 4, updates=3)
    } == {1.0}


def test_what_is_recovered_follows_what_is_known():
    draws = np.random.default_rng(0)
    steps = draws.integers(20, 80, 4000)
    found = by_way(
        simulate("spread", counts(steps, steps + draws.normal(0, 12, 4000)), 16, 8, updates=40)
    )
    assert found["order"] == found["length"] == 0 and found["truth"] > 0.95
    assert 0.2 < found["ponder"] < 0.8
    blind = by_way(simulate("spread", counts(steps, draws.permutation(steps)), 16, 8, updates=40))
    assert abs(blind["ponder"]) < 0.15, "a prediction of nothing recovers nothing"
    assert "difficulty" not in found


def test_counts_come_from_the_last_third():
    late = counts(np.full(30, 4))
    early = Counts(
        **{**vars(late), "update": np.repeat([0, 5, 9], 10), "steps": np.repeat([99, 99, 4], 10)}
    )
    assert early.last(1 / 3).steps.tolist() == [4] * 10


def test_a_training_leaves_its_counts(tmp_path):
    config = RunConfig.model_validate(
        {
            "recipe": "addition",
            "data": {"kind": "Addition", "options": {"digits": 4}},
            "model": {"width": 16, "num_heads": 2},
            "loop": {"max_steps": 3},
            "updates": 9,
            "batch_size": 8,
        }
    )
    found = record(config)
    assert found.update.tolist() == [0] * 8 + [4] * 8 + [8] * 8
    assert (found.steps >= found.length).all() and (found.steps <= 3 * found.length).all()
    assert found.ponder[:8].tolist() == found.length[:8].tolist(), (
        "before the first update, the last map knows nothing"
    )
    # The task makes the same examples again; difficulty counts a step a token besides.
    assert (found.difficulty >= found.length).all() and found.length.std() > 0


def test_targets_can_be_missed(tmp_path):
    steps = np.random.default_rng(0).integers(20, 80, 500)
    known = simulate("known", counts(steps), 8, 8, updates=4)
    assert exit_code(against_targets(known)) == 0
    blind = simulate("blind", counts(steps, np.ones(500)), 8, 8, updates=4)
    assert [figure.met for figure in against_targets(blind)] == [True, False]
    assert "| 8 | " in table(blind)
    save_stragglers_picture([*known, *blind], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def measured(steps: list[list[float]], scale: float, losses: float = 1.0) -> MeasuredEfficiency:
    """Two ranks that take 2 s beside 1 s a token-step; each waits for the other, `scale` times as
    long as it should, and both wait 5 s for something else."""
    taken = np.array(steps, dtype=float)
    return MeasuredEfficiency(
        taken, 2 + taken, 5 + scale * (taken.max(0) - taken), np.full(2, losses)
    )


def test_real_ranks_are_held_to_their_token_steps():
    naive, dealt = measured([[8, 2], [2, 8]], 1.0), measured([[5, 5], [5, 4]], 1.0)
    assert naive.behind == pytest.approx(3) and naive.waited == pytest.approx(3)
    assert naive.lost(naive.computing) == pytest.approx(1 - 7 / 10)
    figures = of_real_ranks({"order": naive, "ponder": dealt})
    assert [figure.met for figure in figures] == [True] * 4 and figures[2].value == pytest.approx(1)
    useless = of_real_ranks(
        {"order": naive, "ponder": measured([[8, 2], [2, 8.5]], 1.0, losses=1.1)}
    )
    assert [figure.met for figure in useless][1::2] == [False, False]
    elsewhere = of_real_ranks({"order": measured([[8, 2], [2, 8]], 0.0), "ponder": dealt})
    assert not elsewhere[2].met, "nobody waited for the slow rank"
