"""What of a ds_config is refused with which words, all reasons at once, and what of it may stand
switched off."""

import json
from pathlib import Path

import pytest
from tiny import make_config

from halting import UsageError
from halting.errors import UsageErrors
from training.config.run_config import RunConfig
from training.engine.ds_config import adopt

ZERO2 = {"zero_optimization": {"stage": 2}}


@pytest.fixture
def written(tmp_path):
    def write(given: object) -> Path:
        path = tmp_path / "zero.json"
        path.write_text(given if isinstance(given, str) else json.dumps(given))
        return path

    return write


@pytest.fixture
def adopted(written):
    """The run, and the lines, where these flags were given."""

    def take(given: object, *flags: str, ranks: int = 2, **options) -> tuple[RunConfig, str]:
        found = adopt(make_config(written(given), **options), ranks, flags)
        return found.config, "\n".join(found.says)

    return take


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"fp16": {"enabled": True}}, ["fp16.enabled = true", "GPUs alone"]),
        (
            {"fp16": {"enabled": True}, "bf16": {"enabled": True}},
            ["fp16.enabled and bf16.enabled", "one precision"],
        ),
        ({"zero_optimisation": {}}, ["zero_optimisation", "Did you mean zero_optimization?"]),
        (
            {"zero_optimization": {"stage3_param_persitance_threshold": 1}},
            [
                "key zero_optimization.stage3_param_persitance_threshold",
                "Did you mean",
                "persistence",
            ],
        ),
        ({"lr": 1e-3}, ["key lr", "belongs into optimizer.params"]),
        ({"stage": 2}, ["key stage", "belongs into zero_optimization"]),
        ({"zero_optimization": {"aio": {}}}, ["zero_optimization.aio", "at the top of the file"]),
        ({"optimizer": {"lr": 1e-3}}, ["optimizer.lr", "belongs into optimizer.params"]),
        ({"optimizer": "Adam"}, ["optimizer", "It is a section"]),
        ({"zero_optimization": 2}, ["zero_optimization = 2", "It is a section"]),
        ({"torch_autocast": True}, ["torch_autocast = true", "It is a section"]),
        ({"optimizer": {"type": "Lamb"}}, ['"Lamb"', "Muon, SGD", "file.py:Class"]),
        ({"optimizer": {"params": {"lr": "fast"}}}, ['lr = "fast"', "a number"]),
        ({"optimizer": {"params": {"betas": 0.9}}}, ["betas = 0.9", "two numbers"]),
        ({"optimizer": {"params": {"betas": [2, 0.9]}}}, ["zero.json", "beta"]),
        ({"optimizer": {"params": {"amsgrad": True}}}, ["amsgrad = true"]),
        ({"optimizer": {"params": {"adam_w_mode": False}}}, ["adam_w_mode = false"]),
        ({"optimizer": {"params": {"momentum": 0.9}}}, ["AdamW has no momentum"]),
        ({"optimizer": {"params": {"max_grad_norm": 1.0}}}, ["gradient_clipping at the top"]),
        ({"scheduler": {"type": "OneCycle"}}, ['"OneCycle"', "WarmupCosine"]),
        ({"scheduler": {"params": {"warmup_min_lr": 1e-6}}}, ["warmup_min_lr", "begin at 0"]),
        ({"train_batch_size": -8}, ["train_batch_size = -8", "1 or more"]),
        ({"train_batch_size": 8.5}, ["train_batch_size = 8.5", "a whole number"]),
        ('{"train_batch_size": 1e999}', ["train_batch_size = Infinity", "a whole number"]),
        ({"train_batch_size": 9}, ["2 backward passes of 9", "equal share"]),
        (
            {"train_batch_size": 32, "train_micro_batch_size_per_gpu": 7},
            ["train_batch_size = 32", "per_gpu = 7", "over 2 ranks"],
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}}},
            ["zero_optimization.offload_optimizer.device", "nvme", '"cpu"'],
        ),
        ({"zero_optimization": {"stage": 4}}, ["zero_optimization.stage = 4", "0, 1, 2 or 3"]),
        ({"zero_optimization": {"stage": [1]}}, ["zero_optimization.stage = [1]"]),
        ({"zero_optimization": {"zero_quantized_gradients": True}}, ["quantizer"]),
        ({"zero_optimization": {"stage": 3, "mics_shard_size": 2}}, ["MiCS", "has removed"]),
        ({"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 2}}, ["zero_hpz"]),
        ({"zero_optimization": {"stage": 2, "zenflow": {"topk_ratio": 0.1}}}, ["zenflow"]),
        (
            {"zero_optimization": {"max_live_parameters": 1, "stage3_max_live_parameters": 2}},
            ["max_live_parameters = 1", "stands beside it"],
        ),
        (
            {"zero_optimization": {"cpu_offload": True, "offload_optimizer": {"device": "cpu"}}},
            ["cpu_offload = true", "stands beside it"],
        ),
        ({"sparse_gradients": True}, ["sparse_gradients = true", "has removed"]),
        ({"elasticity": {"enabled": True}}, ["elasticity", "--resume"]),
        ({"compile": {"deepcompile": True}}, ["compile", "--loop.compiled"]),
        ({"tensor_parallel": {"autotp_size": 2}}, ["tensor_parallel"]),
        ({"data_types": {"grad_accum_dtype": "bf16"}}, ["grad_accum_dtype", "--precision"]),
        ({"gradient_allreduce_op": "sum"}, ['"sum"', '"mean"']),
        ({"managed_gradient_accumulation": False}, ["managed_gradient_accumulation = false"]),
        ({"optimizer": {"type": "Muon"}, **ZERO2}, ["Muon", "ZeRO-2", "whole"]),
        ({"bf16": {"enabled": "maybe"}}, ['bf16.enabled = "maybe"', "true or false"]),
        ({"torch_autocast": {"enabled": []}}, ["torch_autocast.enabled", "true or false"]),
        ({"tensorboard": {"enabled": 2}}, ["tensorboard.enabled = 2", "true or false"]),
        ("{", ["not JSON"]),
        ("[]", ["named settings"]),
        ('{"steps_per_print": NaN}', ["NaN"]),
        (
            '{"zero_optimization": {"stage": 1}, "zero_optimization": {"stage": 3}}',
            ["zero_optimization twice"],
        ),
    ],
)
def test_refused(adopted, given, parts):
    with pytest.raises(UsageError) as refused:
        adopted(given)
    assert not isinstance(refused.value, UsageErrors)
    assert all(part in str(refused.value) for part in parts), refused.value


@pytest.mark.parametrize(
    "given",
    [
        {"sparse_gradients": False},
        {"elasticity": {"enabled": False, "max_train_batch_size": 2000}},
        {"compression_training": {}},
        {"zero_optimization": {"stage": 3, "mics_shard_size": -1, "zero_quantized_weights": False}},
        {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 1, "zenflow": None}},
        {"data_efficiency": {"enabled": False, "seed": 1234}},
        {"tensor_parallel": {"autotp_size": 1, "tp_overlap_comm": True}},
        {"compile": {"deepcompile": False, "double_buffer": True}},
        {"data_types": {"grad_accum_dtype": "fp32", "param_dtype": None}},
        {"gradient_allreduce_op": "mean", "managed_gradient_accumulation": True},
        {"amp": {"enabled": False, "opt_level": "O1"}},
        {"optimizer": {"params": {"adam_w_mode": True, "bias_correction": True, "amsgrad": False}}},
    ],
)
def test_what_is_refused_may_stand_switched_off(adopted, given):
    config, _ = adopted(given)
    zero = given.get("zero_optimization", {})
    assert config.deepspeed == {"zero_optimization": {"stage": zero.get("stage", 0)}}


def test_all_reasons_at_once(adopted):
    given = {
        "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}, "stge": 3},
        "fp16": {"enabled": True},
        "sparse_gradients": True,
        "train_batch_size": 32,
        "optimizer": {"type": "Lamb"},
        "monitors": {},
    }
    with pytest.raises(UsageErrors) as refused:
        adopted(given, "batch_size")
    words = ("nvme", "stge", "fp16", "sparse", "--batch-size", "Lamb", "monitors")
    reasons = refused.value.errors
    assert len(reasons) == len(words)
    for word in words:
        assert any(word in each.what for each in reasons), word
    assert all(each.what and each.why and each.write for each in reasons)
