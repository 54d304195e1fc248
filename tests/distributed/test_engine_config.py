"""What a ds_config may say: ZeRO, offload and communication; numbers are the run's, a conflict
names both places."""

import json
from pathlib import Path

import pytest
from tiny import make_config

from halting import UsageError
from training.engine.ds_config import deepspeed_settings

DS_CONFIGS = Path(__file__).parent.parent.parent / "ds_configs"
ZERO2 = {"zero_optimization": {"stage": 2}}
NUMBERS = {
    "train_batch_size": 8,
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 2,
    "gradient_clipping": 0.5,
    "torch_autocast": {"enabled": False, "dtype": "bfloat16"},
}


@pytest.fixture
def settings(tmp_path):
    def merged(given: object, ranks: int = 2, **options) -> dict:
        path = tmp_path / "zero.json"
        path.write_text(given if isinstance(given, str) else json.dumps(given))
        return deepspeed_settings(make_config(path, **options), ranks)

    return merged


def test_numbers_come_from_the_run(settings):
    own = {"zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}
    assert settings(ZERO2) == {**ZERO2, **NUMBERS, **own}
    assert settings(ZERO2, precision="bf16")["torch_autocast"] == {
        "enabled": True,
        "dtype": "bfloat16",
    }
    fp16 = settings(ZERO2, precision="fp16")
    assert fp16["torch_autocast"] == {"enabled": True, "dtype": "float16"} and not {
        "fp16",
        "bf16",
    } & set(fp16)
    for given in (ZERO2, {**ZERO2, "bf16": {"enabled": True}}):
        narrow = settings(given, precision="bf16_weights")
        assert narrow["bf16"] == {"enabled": True} and not narrow["torch_autocast"]["enabled"]
    assert settings(ZERO2, ranks=4, accumulation=1)["train_micro_batch_size_per_gpu"] == 2


def test_equal_numbers_and_auto_may_stand(settings):
    auto = dict.fromkeys(NUMBERS, "auto") | {
        "torch_autocast": {"enabled": "auto"},
        "bf16": {"enabled": "auto"},
    }
    assert settings({**ZERO2, **NUMBERS}) == settings({**ZERO2, **auto}) == settings(ZERO2)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"train_batch_size": 32}, ["zero.json: train_batch_size = 32", "--batch-size = 8"]),
        (
            {"gradient_accumulation_steps": 4},
            ["gradient_accumulation_steps = 4", "--accumulation = 2"],
        ),
        (
            {"train_micro_batch_size_per_gpu": 8},
            ["per_gpu = 8", "--batch-size = 8 over 2 ranks and --accumulation = 2 = 2"],
        ),
        ({"gradient_clipping": 1.0}, ["gradient_clipping = 1.0", "--optimizer.clip = 0.5"]),
        (
            {"torch_autocast": {"enabled": True}},
            ["torch_autocast.enabled = true", "--precision = float32"],
        ),
        ({"bf16": {"enabled": True}}, ["bf16.enabled = true", "--precision bf16"]),
        ({"fp16": {"enabled": True}}, ["fp16.enabled = true", "--precision fp16"]),
        ({"optimizer": {"type": "Adam"}}, ["section optimizer", "--optimizer.learning-rate"]),
        ({"scheduler": {"type": "WarmupLR"}}, ["section scheduler", "--optimizer.learning-rate"]),
        ({"csv_monitor": {"enabled": True}}, ["section csv_monitor", "--report-to csv"]),
        ({"zero_optimisation": {}}, ["zero_optimisation", "Did you mean zero_optimization?"]),
        (
            {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}}},
            ["zero.json: zero_optimization.offload_optimizer.device", "nvme", '"cpu"'],
        ),
        ({"zero_optimization": {"stage": 4}}, ["zero_optimization.stage = 4", "0, 1, 2 or 3"]),
        ({"zero_optimization": 2}, ["named settings"]),
        ({"torch_autocast": True}, ["torch_autocast = true"]),
        ("{", ["not JSON"]),
        ("[]", ["named settings"]),
    ],
)
def test_refused(settings, given, parts):
    with pytest.raises(UsageError) as refused:
        settings(given)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_narrow_weights_need_zero(settings):
    with pytest.raises(
        UsageError, match=r"stage = 0, but --precision = bf16_weights.*Write stage 1"
    ):
        settings({}, precision="bf16_weights")
    with pytest.raises(UsageError, match=r"fp16.enabled = true, but --precision = bf16_weights"):
        settings({**ZERO2, "fp16": {"enabled": True}}, precision="bf16_weights")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read"):
        deepspeed_settings(make_config(tmp_path / "none.json"), 1)


def test_a_batch_that_ranks_cannot_share(settings):
    with pytest.raises(UsageError, match=r"among 3 ranks.*Write --batch-size 12"):
        settings(ZERO2, ranks=3)


@pytest.mark.parametrize("path", sorted(DS_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_the_files_that_come_along_are_accepted(path):
    assert (
        f"zero{deepspeed_settings(make_config(path), 2)['zero_optimization']['stage']}"
        == path.stem[:5]
    )
    assert f"`{path.name}`" in (DS_CONFIGS / "README.md").read_text()
