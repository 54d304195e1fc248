"""Where a sweep says that its knee may be noise."""

from pathlib import Path

import pytest
from told_sweeps import FOUND, figures, measure_all, sweep_of

from training.tuning.chosen import chosen
from training.tuning.display import Display
from training.tuning.measured import measured
from training.tuning.written_out import noise_note


@pytest.fixture
def begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return sweep_of(Path("s"), "--penalty.value", *FOUND)


def test_a_knee_of_one_seed_a_setting_may_be_noise_and_that_stands_where_it_is_told(begun, capsys):
    sweep, space = begun
    sweep.queue(space.grid(), range(1))
    measure_all(sweep, FOUND)
    assert Display(sweep).end(None) == 0
    told = [capsys.readouterr().out, chosen(sweep.folder, "knee", "pointer_chase").says]
    told += [(sweep.folder / name).read_text() for name in ("report.md", "pareto.html")]
    for text in told:
        assert "may be noise" in text.replace("\n", " ")
    assert all("ponder tune --out s --seeds 3" in text for text in (told[0], *told[2:]))
    assert "noise" not in chosen(sweep.folder, "best", "pointer_chase").says


def test_several_seeds_that_agree_leave_no_doubt_and_those_that_do_not_are_named(begun):
    sweep, space = begun
    sweep.queue(space.grid(), range(2))
    measure_all(sweep, FOUND)
    assert noise_note(sweep, measured(sweep)) is None
    sweep.queue(space.grid(), range(2, 3))
    measure_all(sweep, {**FOUND, "0.01": figures(0.9985, 2.0)})
    told = noise_note(sweep, measured(sweep))
    assert told is not None and "spread over seeds of 0.001." in told and "--seeds 5" in told
