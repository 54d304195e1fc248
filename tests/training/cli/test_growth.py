"""Maps of the same examples while a run trains: recorded, kept, cut off and cleared, and played by
the page."""

import json
import shutil

import numpy as np
import pytest
from small_runs import Signalling, losses, small, train_only

from training.cli.main import main
from training.runs import growth
from training.runs.loaded import load_run
from training.start import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 12 updates, evaluated after 5, 10 and 12, with a map each time but the last."""
    output = tmp_path_factory.mktemp("growth")
    assert train(small(output, name="run", keep_last=9)) == 0
    return output / "run"


def test_maps_are_those_of_the_model_at_that_moment(run):
    maps, wrong = growth.read_growth(run)
    assert [each.metadata["update"] for each in maps] == [0, 5, 10] and wrong == []
    untrained = load_run(f"{run}@0")
    expected = untrained.ponder_map(untrained.task.batch("test", 0, 16))
    np.testing.assert_array_equal(maps[0].steps, expected.steps)
    np.testing.assert_allclose(maps[0].mass, expected.mass, atol=1e-4)
    assert maps[0].texts == expected.texts and maps[0].predictions is not None
    assert (maps[2].mass != maps[0].mass).any()


def test_recording_changes_nothing_that_is_learned_and_without_room_leaves_out_the_lens(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(growth, "_MOST_LOGITS", 10)
    assert train(small(tmp_path, name="bare", map_every=100)) == 0
    assert losses(tmp_path / "bare") == losses(run)
    (first,) = growth.read_growth(tmp_path / "bare")[0]
    assert (
        first.predictions is None
        and first.confidence is None
        and first.final_prediction is not None
    )
    assert growth_on((tmp_path / "bare" / "ponder_map.html").read_text()) == 1


def test_a_resumed_run_records_what_one_that_was_not_stopped_does(run, tmp_path):
    """A signal in update 6 ends the run after the map of update 5; that of a later one lies there
    from a killed run."""
    stops = {"kind": f"{Signalling.__module__}:Signalling"}
    assert train(small(tmp_path, name="run", data=stops, keep_last=9)) == 0
    stopped = tmp_path / "run"
    assert [path.name for path in sorted((stopped / growth.FOLDER).glob("*.json"))] == [
        "update-000000.json",
        "update-000005.json",
    ]
    for suffix in (".json", ".npz"):
        shutil.copy(
            run / growth.FOLDER / f"update-000010{suffix}",
            stopped / growth.FOLDER / f"update-000009{suffix}",
        )
    assert train_only(small(tmp_path, name="run", keep_last=9), stopped) == 0
    for mine, uninterrupted in zip(
        growth.read_growth(stopped)[0], growth.read_growth(run)[0], strict=True
    ):
        np.testing.assert_array_equal(mine.mass, uninterrupted.mass)
        assert mine.metadata["update"] == uninterrupted.metadata["update"]


def test_the_page_plays_the_growth_and_leaves_out_what_is_damaged(run, tmp_path, capsys):
    assert main(["show", str(run), "--html", str(tmp_path / "page.html")]) == 0
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / growth.FOLDER / "update-000005.npz").write_bytes(b"nothing")
    assert main(["show", str(tmp_path / "damaged"), "--html", str(tmp_path / "less.html")]) == 0
    assert "update-000005.npz" in capsys.readouterr().err
    assert main(["show", str(run), "--split", "test", "--html", str(tmp_path / "other.html")]) == 0
    pages = [
        run / "ponder_map.html",
        *(tmp_path / f"{name}.html" for name in ("page", "less", "other")),
    ]
    assert [growth_on(page.read_text()) for page in pages] == [3, 3, 2, 0]


def growth_on(page: str) -> int:
    """How many earlier maps a page holds."""
    return json.loads(page.partition('id="about">')[2].partition("</script>")[0])["growth"]


def test_maps_of_other_examples_or_later_updates_are_not_played(run):
    maps, final = (
        growth.read_growth(run)[0],
        load_run(run).ponder_map(load_run(run).task.batch("test", 0, 16)),
    )
    latest, before = growth.grown(final, [each.select(slice(4)) for each in maps])
    assert (latest.num_sequences, [each.num_sequences for each in before]) == (4, [4, 4, 4])
    other = load_run(run).ponder_map(load_run(run).task.batch("validation", 0, 16))
    assert growth.grown(other, maps) == (other, [])
    assert (
        growth.grown(maps[1], maps)[1][0].metadata["update"] == 0
        and len(growth.grown(maps[1], maps)[1]) == 1
    )


def test_where_maps_come_to_be_too_many_every_second_goes(run, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "_MOST_MAPS", 3)
    assert train_only(small(tmp_path, name="run", eval_every=2)) == 0
    # 0 2 4 6 → 0 4 6; with 8: 0 4 6 8 → 0 6 8; with 10: 0 6 8 10 → 0 8 10.
    assert [each.metadata["update"] for each in growth.read_growth(tmp_path / "run")[0]] == [
        0,
        8,
        10,
    ]
