"""A run goes on in any shape from any other: some that span ranks 1, 2 and 3, ZeRO 0 to 3 and plain
PyTorch. All pairs: `python -m benchmarks.reshape`."""

import json
from pathlib import Path

import pytest
from small_runs import small

from benchmarks.reshape.benchmark import FIRST, LATER
from benchmarks.reshape.worker import PLAIN, Shape, go_on, save_source
from training.cli.main import main as ponder
from training.runs import metrics
from training.start import train
from training.train import main

DS_CONFIGS = Path(__file__).parent.parent.parent / "ds_configs"
CARRIED = ("offloaded", "tied, with a rule's own state", "frozen, in bfloat16")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    """What each number of ranks saw, and what plain PyTorch saw before and after."""
    folder: Path = tmp_path_factory.mktemp("reshape")
    save_source(PLAIN, folder)
    for ranks in (2, 3, 1):
        launch_ranks("reshape_worker.py", folder, folder=folder, ranks=ranks, timeout=240)
    read = {
        name: json.loads((folder / f"found-{name}.json").read_text())
        for name in ("1-0", "2-0", "2-1", "3-0")
    }
    rows = [row for name in ("1-0", "2-0", "3-0") for row in read[name]["rows"]]
    return {**read, "rows": [*rows, go_on(Shape(3, 3), PLAIN, folder)]}


def test_losses_are_those_of_the_run_that_was_not_reshaped(found):
    assert len(found["rows"]) == 5
    assert max(row["first"] for row in found["rows"]) <= FIRST
    assert max(row["following"] for row in found["rows"]) <= LATER
    # Other ranks add in another order, so if all were equal to the bit, nothing would have been
    # reshaped.
    assert any(row["following"] > 0 for row in found["rows"])


def test_what_is_loaded_and_saved_again_is_the_same_bytes(found):
    assert all(row["same_bytes"] for row in found["rows"])


def test_a_reshaped_run_goes_on_from_its_own_checkpoint_to_the_bit(found):
    assert all(row["resumable"] for row in found["rows"])


@pytest.mark.parametrize("variant", CARRIED)
def test_models_and_settings_of_all_kinds_are_carried(found, variant):
    carried = found["2-0"][variant]
    assert carried == {"same": [True, True], "resumed": [True, True]}


def test_padding_that_nobody_wrote_to_is_no_weight(found):
    assert found["3-0"]["finite"] == [True, False]


def test_where_rank_0_cannot_write_all_ranks_notice(found):
    assert (
        found["2-0"]["unwritable"] == "FileNotFoundError"
        and found["2-1"]["unwritable"] == "RuntimeError"
    )


def test_a_run_says_from_what_shape_it_goes_on_and_exports_the_same_bytes_from_any(
    tmp_path, launch_ranks, capsys
):
    home, (one, two) = tmp_path / "run", (tmp_path / "one", tmp_path / "two")
    assert train(small(tmp_path, name="run", updates=2)) == 0
    flags = ["--resume", home, "--updates", 3, "--deepspeed-config", DS_CONFIGS / "zero3.json"]
    first, second = launch_ranks("ponder_train.py", *flags, folder=tmp_path)
    assert (
        "going on after update 2, from 1 rank at ZeRO stage 0 to 2 ranks at ZeRO stage 3"
        in first.output
    )
    assert "going on" not in second.output
    assert ponder(["export", str(home), "--to", "safetensors", "--output", str(two)]) == 0
    # It was done, so this writes its end once more, and trains nothing.
    written = (home / "final" / "model.safetensors").stat().st_mtime_ns
    assert main(["--resume", str(home), "--deepspeed-config", "None"]) == 0
    assert (
        "going on after update 3, from 2 ranks at ZeRO stage 3 to 1 rank at ZeRO stage 0"
        in capsys.readouterr().out
    )
    assert (home / "final" / "model.safetensors").stat().st_mtime_ns > written
    assert ponder(["export", str(home), "--to", "safetensors", "--output", str(one)]) == 0
    for name in ("model.safetensors", "config.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    shapes = [
        [line[key] for key in ("ranks_before", "stage_before", "ranks", "stage")]
        for line in resumed(home)
    ]
    assert shapes == [[1, 0, 2, 3], [2, 3, 1, 0]]


def resumed(home: Path) -> list[dict]:
    return metrics.read_metrics(home, "resumed")
