"""Sequences dealt to two ranks by what they cost: the same losses and gradient, less to wait for,
an exact resume."""

import json
from pathlib import Path

import pytest
import small_runs
from small_runs import train_only

from training.config.run_config import RunConfig

WAYS = ("length", "difficulty", "ponder")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder: Path = tmp_path_factory.mktemp("dealing")
    launch_ranks("dealing_worker.py", folder, folder=folder, timeout=120)
    return json.loads((folder / "found.json").read_text())


def losses(lines: list[dict]) -> list[float]:
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_is_that_of_rows_in_order(found, way):
    assert found["apart"][way] < 1e-6
    assert sum(found["taken"][way]) == sum(found["taken"]["order"]), "the same examples"


@pytest.mark.parametrize("way", WAYS)
def test_the_losses_are_those_of_rows_in_order(found, way):
    reference = losses(found["runs"]["order"])
    assert len(reference) == 12
    assert losses(found["runs"][way]) == pytest.approx(reference, rel=1e-5)


def test_weighted_targets_train_as_on_one_process(found, tmp_path):
    """Each target's loss weighs as its batch says, and is divided by the sum over all ranks."""
    config = RunConfig.model_validate(found["weighted"]["alone"]).model_copy(
        update={"output": str(tmp_path), "name": "alone", "threads": 1}
    )
    assert train_only(config) == 0
    alone = list(small_runs.losses(tmp_path / "alone").values())
    assert len(alone) == 12
    for way in ("order", "length"):
        assert losses(found["weighted"][way]) == pytest.approx(alone, rel=1e-5)
    assert losses(found["runs"]["order"]) != pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize(
    "way", ["length", "ponder"]
)  # an untrained model does not follow difficulty
def test_ranks_are_more_even_than_in_order(found, way):
    def evenness(which: str) -> list[float]:
        return [line["evenness"] for line in found["runs"][which] if line["kind"] == "ranks"]

    assert len(evenness(way)) == 3
    assert min(evenness(way)) > max(evenness("order"))


def test_every_rank_tells_what_it_did(found):
    line = next(line for line in found["runs"]["order"] if line["kind"] == "ranks")
    assert all(len(line[name]) == 2 for name in ("steps", "tokens", "computing", "waiting"))
    assert min(line["computing"]) > 0 and 0 < line["evenness_of_seconds"] <= 1
    mean = [line["mean_steps"] for line in found["runs"]["order"] if line["kind"] == "train"][:5]
    assert min(mean) <= sum(line["steps"]) / sum(line["tokens"]) <= max(mean)


def test_a_resumed_run_deals_as_if_it_had_never_stopped(found):
    assert losses(found["resumed"]) == losses(found["runs"]["ponder"])
    (whole, resumed) = (
        [line["steps"] for line in found[key] if line["kind"] == "ranks"][-1]
        for key, found in (("ponder", found["runs"]), ("resumed", found))
    )
    assert whole == resumed


def test_ranks_take_a_collapsed_run_back_together(found):
    """Both see the collapse at one update, and go on from one checkpoint with one penalty and one
    halting bias."""
    lines = found["recovered"]
    (told,) = [
        line["says"] for line in lines if line["kind"] == "warning" and "recovering" in line["says"]
    ]
    assert told.startswith(
        "recovering (1 of 4) from the collapse at update 10: going on after update 0"
    )
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["update"] for line in trained] == list(range(1, 15))
    assert {round(line["penalty"], 9) for line in trained} == {0.1} and trained[-1][
        "mean_steps"
    ] > 2
