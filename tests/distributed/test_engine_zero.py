"""DeepSpeedEngine is LocalEngine on several ranks: losses, norms, weights, resuming, evaluation, at
each stage."""

import json
from pathlib import Path

import pytest

STAGES = ("0", "1", "2", "3")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launch_ranks) -> dict:
    folder: Path = tmp_path_factory.mktemp("engine")
    launch_ranks("engine_worker.py", folder, folder=folder, timeout=300)
    assert not (folder / "extensions").exists(), "something was compiled"
    return json.loads((folder / "found.json").read_text())


def test_the_batches_make_ranks_loop_unequally(found):
    assert any(first != second for first, second in found["reference"]["steps"])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("figure", ["losses", "norms"])
def test_trains_as_the_reference(found, stage, figure):
    ours = found[stage]["before"][figure] + found[stage]["after"][figure]
    assert ours == pytest.approx(
        found["reference"]["history"][figure], rel=1e-5 if figure == "losses" else 1e-4
    )
    assert len(ours) == 20


@pytest.mark.parametrize("stage", STAGES)
def test_weights_are_whole_on_rank_0(found, stage):
    assert found[stage]["weights"] < 1e-5
    on_rank_0, elsewhere = found[stage]["num_weights"]
    assert on_rank_0 > 0 and elsewhere == 0
    assert found[stage]["whole"] == (stage != "3") and found[stage]["stage"] == int(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_resumes_to_the_bit(found, stage):
    assert found[stage]["resumed"] == found[stage]["after"]
    assert found[stage]["resumed_after_skip"] == found[stage]["later"]


@pytest.mark.parametrize("stage", STAGES)
def test_evaluates_as_the_reference(found, stage):
    assert found[stage]["evaluated"] == pytest.approx({"logits": 0.0, "lens": 0.0}, abs=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_one_ranks_bad_gradient_is_skipped_by_all(found, stage):
    assert found[stage]["bad_gradient"] == {"skipped": [1.0, 1.0], "moved": 0.0}
    assert found[stage]["later"]["losses"] == pytest.approx(
        found["reference"]["later"]["losses"], rel=1e-5
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_rank_notices_the_damage_of_one_file(found, stage):
    assert found[stage]["damage_noticed"] == [1.0, 1.0]


@pytest.mark.parametrize(
    "variant", ["tied", "reads_logits", "every_step", "balanced", "zero2_offload", "zero3_offload"]
)
def test_variants_train_as_the_reference(found, variant):
    ours, reference = found[variant]["history"], found[variant]["reference"]
    assert ours["losses"] == pytest.approx(reference["losses"], rel=1e-5)
    assert found[variant]["weights"] < 1e-5
    assert found[variant]["evaluated"] == pytest.approx({"logits": 0.0, "lens": 0.0}, abs=1e-4)


def test_losses_instead_of_logits_train_as_the_reference(found):
    whole = {stage: found[stage]["before"] for stage in ("2", "3")}
    whole |= {name: found[name]["history"] for name in ("every_step", "tied")}
    for name, ours in found["asked"].items():
        assert ours["losses"] == pytest.approx(whole[name]["losses"][:6], rel=1e-5), name
        assert ours["norms"] == pytest.approx(whole[name]["norms"][:6], rel=1e-4), name


def test_a_rules_own_state_is_that_of_one_process(found):
    """What is compared of its weights holds its buffers too; here, that there was something to
    compare."""
    buffers = found["balanced"]["buffers"]
    assert buffers["updates"] == 6 and sum(buffers["sent"]) == 0
    assert any(buffers["moves"]) and max(map(abs, buffers["moves"])) <= 5


@pytest.mark.parametrize("which", ["SGD 2", "SGD 3", "AdamW 2", "Muon 0"])
def test_other_optimizers_train_as_the_reference_and_go_on(found, which):
    """To the bit in the same shape, from before the first step too; and by plain PyTorch."""
    ran = found["optimizers"][which]
    # Newton-Schulz runs in bfloat16, which turns rounding into a little more.
    near = 1e-3 if which.startswith("Muon") else 1e-5
    ours = ran["before"]["losses"] + ran["after"]["losses"]
    assert ours == pytest.approx(ran["reference"]["losses"], rel=near)
    assert ran["fresh"] == ran["before"]
    assert ran["resumed"] == ran["after"]
    assert ran["alone"]["losses"] == pytest.approx(ran["after"]["losses"], rel=near)


@pytest.mark.parametrize("variant", ["bf16_zero2", "bf16_zero3"])
def test_bf16_stays_near_the_reference_and_halts_in_float32(found, variant):
    ours, reference = found[variant]["history"], found[variant]["reference"]
    assert ours["losses"] == pytest.approx(reference["losses"], rel=5e-3)
    assert ours["losses"] != pytest.approx(found["2"]["before"]["losses"][:6], rel=1e-5), (
        "it ran in float32"
    )
    assert found[variant]["score"] == "torch.float32"
