"""What a dry run says of memory and communication is what a real engine holds and sends."""

import json
from pathlib import Path

import pytest
from memory_shapes import WAYS, make_config

from training.resources.dry_run import plan

RANKS = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder: Path = tmp_path_factory.mktemp("memory")
    launch_ranks("memory_worker.py", folder, folder=folder, ranks=RANKS, timeout=300)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("way", WAYS)
def test_tensors_are_within_a_tenth(found, way, tmp_path):
    said = plan(make_config(way, tmp_path), RANKS)
    assert said.own.held == pytest.approx(found["ways"][way]["held"], rel=0.1)
    assert said.own.after_forward(said.activations.bytes) == pytest.approx(
        found["ways"][way]["after_forward"], rel=0.1
    )


@pytest.mark.parametrize("way", WAYS)
def test_ranks_send_what_was_said(found, way, tmp_path):
    said = plan(make_config(way, tmp_path), RANKS)
    [own] = [each for each in said.communication_volume if each.sharing == said.own.sharing]
    assert own.sent == pytest.approx(found["ways"][way]["sent"], rel=0.02)


def test_the_ways_differ(found):
    """So that a count of one way would not do for another."""
    held = {way: each["held"] for way, each in found["ways"].items()}
    assert held["zero0"] > 1.2 * held["zero2"] and held["zero2"] > 1.1 * held["zero3"]
    assert (
        found["ways"]["zero3_kept"]["after_forward"] > 1.1 * found["ways"]["zero3"]["after_forward"]
    )
    assert found["ways"]["zero2_accumulated"]["sent"] > 1.5 * found["ways"]["zero2"]["sent"]
    assert found["ways"]["zero3_kept"]["sent"] < 0.8 * found["ways"]["zero3"]["sent"]


def test_large_blocks_go_back_to_the_system(found):
    assert found["given_back"] > 0.9
