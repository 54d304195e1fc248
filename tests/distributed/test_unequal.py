"""Ranks that loop unequally are one process on the same global batch, at every ZeRO stage; the
short form of `python -m benchmarks.unequal`."""

import json
from pathlib import Path

import pytest

from benchmarks.unequal.benchmark import GRADIENTS, LOSSES, PARAMETERS
from benchmarks.unequal.case import kind_of


@pytest.fixture(scope="module", params=[2, 3], ids=["2 ranks", "3 ranks"])
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, launch_ranks
) -> dict:
    folder: Path = tmp_path_factory.mktemp("unequal")
    launch_ranks("unequal_worker.py", folder, folder=folder, ranks=request.param, timeout=300)
    return {"ranks": request.param, **json.loads((folder / "found.json").read_text())}


def test_every_stage_backprop_and_accumulation_ran(found):
    ran = {(row["stage"], row["accumulation"], row["backprop"]) for row in found["cases"]}
    assert len(ran) == (24 if found["ranks"] == 2 else 5)
    assert {stage for stage, *_ in ran} == {0, 1, 2, 3}


def test_ranks_leave_as_they_were_made_to(found):
    """Among the updates: one rank at step 1 and another at the limit, a rank without a token, and
    all at step 1."""
    ranks = found["ranks"]
    kinds = [{kind_of(update, rank, ranks) for rank in range(ranks)} for update in range(6)]
    assert (
        {"quick", "slow"} in kinds and {"quick"} in kinds and any("empty" in each for each in kinds)
    )
    for row in found["cases"]:
        assert (row["name"], row["astray"], row["unequal"]) == (row["name"], 0, 5)


def test_the_training_is_that_of_one_process(found):
    for row in found["cases"]:
        assert row["gradients"] <= GRADIENTS, row
        assert row["losses"] <= LOSSES, row
        assert row["optimizer"] == "AdamW" or row["parameters"] <= PARAMETERS, row


def test_with_experts_inside_the_loop_ranks_agree_on_their_steps(found):
    for row in found["experts"]:
        assert all(len(set(taken)) == 1 for taken in row["steps"]), row
        assert {taken[0] for taken in row["steps"]} == {1, 4}, row


def test_experts_over_ranks_are_those_of_one_process(found):
    assert len(found["experts"]) == (12 if found["ranks"] == 2 else 1)
    for row in found["experts"]:
        assert row["gradients"] <= GRADIENTS and row["parameters"] <= PARAMETERS, row
        assert row["expert_gradient"] > 0, "an expert was asked nothing"
