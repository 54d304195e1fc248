"""Ranks that are killed at once lose nothing: the short form of `python -m benchmarks.chaos`."""

from pathlib import Path

from benchmarks.chaos.benchmark import Seen, figures_of, torment, undisturbed
from benchmarks.harness.report import exit_code
from benchmarks.harness.rows import Rows

STAGE = 3
KILLS = 3  # the third while a checkpoint is being written


def test_killed_ranks_go_on_and_every_loss_is_that_of_an_undisturbed_run(tmp_path: Path):
    seen = Seen()
    kills = torment(tmp_path / "killed", STAGE, KILLS, seen, Rows(None, "this code"))
    assert [kill.loadable for kill in kills] == [True] * KILLS, kills
    assert [kill.saving for kill in kills] == [False, False, True]
    reference = undisturbed(tmp_path / "undisturbed", STAGE, max(seen.losses))
    figures = figures_of(kills, {STAGE: seen}, {STAGE: reference})
    assert exit_code(figures) == 0, figures
    assert all(kill.reached > kill.resumed for kill in kills), "each start came to train"
