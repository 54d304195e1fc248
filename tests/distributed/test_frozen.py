"""A frozen model whose halting rule alone learns, on two ranks: at each ZeRO stage as in one
process."""

import json
from pathlib import Path

import pytest

STAGES = ("0", "1", "2", "3")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder: Path = tmp_path_factory.mktemp("frozen")
    launch_ranks("frozen_worker.py", folder, folder=folder, timeout=200)
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_the_gate_alone_moves_as_in_one_process(found, stage):
    assert found[stage]["moved"] == ["recurrence.rule.gate.bias", "recurrence.rule.gate.weight"]
    assert found[stage]["apart"] < 1e-5
    losses = found[stage]["before"]["losses"] + found[stage]["after"]["losses"]
    assert losses == pytest.approx(found["reference"]["losses"], rel=1e-5)
    norms = found[stage]["before"]["norms"] + found[stage]["after"]["norms"]
    assert norms == pytest.approx(found["reference"]["norms"], rel=1e-4) and min(norms) > 0


@pytest.mark.parametrize("stage", STAGES)
def test_it_resumes_to_the_bit(found, stage):
    assert found[stage]["resumed"] == found[stage]["after"]
