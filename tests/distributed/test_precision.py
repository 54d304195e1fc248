"""16 bits under ZeRO: near the reference, resumed to the bit with the loss scale, skipped by all
ranks alike.

fp16 is for GPUs, and refused on a CPU by the trainer; what DeepSpeed makes of it is the same here,
only slow.
"""

import json
from pathlib import Path

import pytest

STAGES = ("0", "1", "2", "3", "zero2_offload", "zero3_offload")
RUNS = [("fp16", stage) for stage in STAGES] + [("bf16_weights", stage) for stage in STAGES[1:]]
each_run = pytest.mark.parametrize(("precision", "stage"), RUNS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder: Path = tmp_path_factory.mktemp("precision")
    launch_ranks("precision_worker.py", folder, folder=folder, timeout=300)
    return json.loads((folder / "found.json").read_text())


@each_run
def test_trains_near_the_reference(found, precision, stage):
    """The norms tell whether gradients were divided by the loss scale before they were clipped."""
    ours = found[precision][stage]
    reference = found["reference"]["fp16" if precision == "fp16" else "float32"]
    for figure, near in (("losses", 1e-2), ("norms", 5e-2)):
        assert ours["before"][figure] + ours["after"][figure] == pytest.approx(
            reference[figure], rel=near
        )
    assert ours["before"]["losses"] != found["reference"]["float32"]["losses"][:6], (
        "it ran in float32"
    )
    assert ours["dtypes"] == ["torch.float32" if precision == "fp16" else "torch.bfloat16"]
    assert ours["narrow"] == {}, "halting arithmetic is float32"


@each_run
def test_resumes_to_the_bit_and_with_its_loss_scale(found, precision, stage):
    ours = found[precision][stage]
    assert ours["resumed"] == ours["after"]
    scales = (
        [2.0**power for power in (10, 10, 10, 11, 11, 11, 11, 12, 12)]
        if precision == "fp16"
        else [1.0] * 9
    )
    assert (
        ours["before"]["scales"] + ours["after"]["scales"]
        == scales
        == found["reference"]["fp16" if precision == "fp16" else "float32"]["scales"]
    )


@each_run
def test_an_infinite_loss_of_one_rank_is_skipped_by_all(found, precision, stage):
    scales = (2.0**11, 2.0**10) if precision == "fp16" else (1.0, 1.0)
    for lost, scale in zip(found[precision][stage]["lost"], scales, strict=True):
        assert lost == {"skipped": [1.0, 1.0], "moved": False, "scales": [scale, scale]}


@pytest.mark.parametrize("stage", STAGES)
def test_an_overflow_is_skipped_and_halves_the_scale_on_all_ranks(found, stage):
    for overflow, power in zip(found["fp16"][stage]["overflow"], (39, 38), strict=True):
        assert overflow == {"skipped": [1.0, 1.0], "moved": False, "scales": [2.0**power] * 2}


@pytest.mark.parametrize("stage", ["0", "3"])
def test_ranks_count_alike_and_stop_together(found, stage):
    """Update 4 has no finite loss on rank 1; from update 7 on none has."""
    assert found["loop"][stage] == [["lost", 9, 4]] * 2


def test_a_rules_weights_are_not_rounded_on_their_way(found):
    """Law 5: under ZeRO-3 and autocast, DeepSpeed sends the weights of linear layers in 16 bits."""
    assert found["rule"] == {"rounded": False, "as trained": True}
