"""What of a ds_config becomes the run's, what has no effect, and what is refused with which
words."""

import json
from pathlib import Path

import pytest
from tiny import make_config

from halting import UsageError
from halting.errors import UsageErrors
from training.config.run_config import RunConfig
from training.engine.ds_config import adopt, deepspeed_settings

ROOT = Path(__file__).resolve().parents[4]
DS_CONFIGS = ROOT / "ds_configs"
ZERO2 = {"zero_optimization": {"stage": 2}}
NUMBERS = {
    "train_batch_size": 8,
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 2,
    "gradient_clipping": 0.5,
    "torch_autocast": {"enabled": False, "dtype": "bfloat16"},
}


@pytest.fixture
def written(tmp_path):
    def write(given: object) -> Path:
        path = tmp_path / "zero.json"
        path.write_text(given if isinstance(given, str) else json.dumps(given))
        return path

    return write


@pytest.fixture
def settings(written):
    """What DeepSpeed gets, as it is without a command line: what differs from the defaults
    counts as said."""

    def merged(given: object, ranks: int = 2, **options) -> dict:
        return deepspeed_settings(make_config(written(given), **options), ranks)

    return merged


@pytest.fixture
def adopted(written):
    """The run, and the lines, where these flags were given."""

    def take(given: object, *flags: str, ranks: int = 2, **options) -> tuple[RunConfig, str]:
        found = adopt(make_config(written(given), **options), ranks, flags)
        return found.config, "\n".join(found.says)

    return take


def value_at(config: RunConfig, path: str) -> object:
    found: object = config
    for word in path.split("."):
        found = found[word] if isinstance(found, dict) else getattr(found, word)
    return found


def test_numbers_come_from_the_run(settings):
    own = {"zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}
    assert settings(ZERO2) == {**ZERO2, **NUMBERS, **own}
    assert settings(ZERO2, precision="bf16")["torch_autocast"] == {
        "enabled": True,
        "dtype": "bfloat16",
    }
    for given in (ZERO2, {**ZERO2, "bf16": {"enabled": True}}):
        narrow = settings(given, precision="bf16_weights")
        assert narrow["bf16"] == {"enabled": True} and not narrow["torch_autocast"]["enabled"]
    assert settings(ZERO2, ranks=4, accumulation=1)["train_micro_batch_size_per_gpu"] == 2


def test_equal_numbers_and_auto_may_stand(settings):
    auto = dict.fromkeys(NUMBERS, "auto") | {
        "torch_autocast": {"enabled": "auto"},
        "bf16": {"enabled": "auto"},
        "optimizer": {"type": "AdamW", "params": dict.fromkeys(("lr", "betas", "eps"), "auto")},
        "scheduler": {"type": "auto", "params": {"warmup_num_steps": "auto"}},
        "amp": {"enabled": "auto", "opt_level": "auto"},
    }
    assert settings({**ZERO2, **NUMBERS}) == settings({**ZERO2, **auto}) == settings(ZERO2)


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        ({"train_batch_size": 32}, "batch_size", 32),
        ({"gradient_accumulation_steps": 4}, "accumulation", 4),
        ({"train_micro_batch_size_per_gpu": 4}, "batch_size", 16),  # x 2 ranks x accumulation 2
        ({"train_micro_batch_size_per_gpu": 3, "gradient_accumulation_steps": 5}, "batch_size", 30),
        ({"train_micro_batch_size_per_gpu": 3, "train_batch_size": 24}, "accumulation", 4),
        ({"gradient_clipping": 2}, "optimizer.clip", 2.0),
        ({"gradient_clipping": 0.0}, "optimizer.clip", 1e30),
        ({"bf16": {"enabled": True}}, "precision", "bf16"),
        ({"bfloat16": {"enabled": True}}, "precision", "bf16"),
        ({"fp16": {"enabled": False, "loss_scale": 0}}, "precision", "float32"),
        ({"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}, "precision", "bf16"),
        ({"optimizer": {"type": "Adam", "params": {"lr": 0.5}}}, "optimizer.learning_rate", 0.5),
        ({"optimizer": {"params": {"lr": "5e-4"}}}, "optimizer.learning_rate", 5e-4),
        (
            {"optimizer": {"type": "adamw", "params": {"betas": [0.8, 0.999], "eps": 1e-7}}},
            "optimizer.options",
            {"beta1": 0.8, "beta2": 0.999, "eps": 1e-7},
        ),
        ({"optimizer": {"type": "SGD", "params": {"momentum": 0}}}, "optimizer.kind", "SGD"),
        (
            {"optimizer": {"type": "SGD", "params": {"momentum": 0.5, "weight_decay": 0.25}}},
            "optimizer.options.momentum",
            0.5,
        ),
        ({"optimizer": {"params": {"weight_decay": 0}}}, "optimizer.weight_decay", 0.0),
        (
            {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 7}}},
            "schedule.options",
            {"warmup": 7},
        ),
        ({"scheduler": {"type": "WarmupLR", "params": {}}}, "schedule.kind", "WarmupConstant"),
        (
            {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 70}}},
            "schedule.options",
            {"final_fraction": 0.0},
        ),
        ({"scheduler": {"params": {"total_num_steps": 70}}}, "updates", 70),
        (
            {"scheduler": {"type": "WarmupCosineLR", "params": {"cos_min_ratio": 0.2}}},
            "schedule.options.final_fraction",
            0.2,
        ),
        (
            {
                "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
                "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 2e-3}},
            },
            "optimizer.learning_rate",
            2e-3,  # as with DeepSpeed, whose scheduler sets it
        ),
        (
            {"wandb": {"enabled": True}, "csv_monitor": {"enabled": True}},
            "report_to",
            ("csv", "wandb"),
        ),
        ({"comet": {"enabled": False}}, "report_to", ()),
        ({"zero_optimization": True}, "deepspeed", {"zero_optimization": {"stage": 1}}),
        ({"_comment": "mine", "// note": 1}, "deepspeed", {"zero_optimization": {"stage": 0}}),
        (
            {"zero_optimization": {"stage": 2, "cpu_offload": True, "reduce_bucket_size": "auto"}},
            "deepspeed.zero_optimization",
            {"stage": 2, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": 50_000_000},
        ),
        (
            {"zero_optimization": {"stage": 3, "max_live_parameters": 5, "offload_param": None}},
            "deepspeed.zero_optimization",
            {"stage": 3, "stage3_max_live_parameters": 5},
        ),
        (
            {"zero_optimization": {"stage": 1, "offload_param": {"device": "cpu"}}},
            "deepspeed.zero_optimization",
            {"stage": 1},
        ),
    ],
)
def test_taken_over(adopted, given, path, value):
    config, says = adopted(given)
    assert value_at(config, path) == value
    assert deepspeed_settings(config, 2)["train_batch_size"] == config.batch_size
    if (
        "." not in path
        and path != "deepspeed"
        and value_at(make_config("zero.json"), path) != value
    ):
        assert f"--{path.replace('_', '-')} " in says


def test_one_line_says_what_was_taken_and_one_what_has_no_effect(adopted):
    _, says = adopted(
        {
            "train_batch_size": 32,
            "optimizer": {"type": "SGD", "params": {"lr": 0.25}},
            "checkpoint": {"tag_validation": "Warn"},
            "fp16": {"enabled": "auto", "loss_scale": 0},
        }
    )
    taken, idle = says.splitlines()
    assert taken == (
        "zero.json says --batch-size 32, --optimizer.kind SGD, --optimizer.learning-rate 0.25"
    )
    assert idle.startswith("zero.json: without effect here: checkpoint.tag_validation (")


def test_what_was_adopted_needs_no_file(adopted, tmp_path):
    config, _ = adopted({**ZERO2, "train_batch_size": 32, "steps_per_print": 5})
    (tmp_path / "zero.json").unlink()
    again = RunConfig.from_json(config.to_json())
    assert again == config and adopt(again, 2).config == config
    assert deepspeed_settings(again, 2)["steps_per_print"] == 5
    (tmp_path / "zero.json").write_text(json.dumps({**ZERO2, "steps_per_print": 6}))
    [says] = adopt(again, 2, ()).says
    assert "zero.json has changed" in says and f"--deepspeed-config {tmp_path}" in says
    (tmp_path / "zero.json").write_text(json.dumps({**ZERO2, "steps_per_print": 5}))
    assert adopt(again, 2, ()).says == ()
    assert adopt(config.replace(deepspeed_config=None), 2).config.deepspeed is None


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"zero_optimization": 5}, "deepspeed: zero_optimization = 5"),
        ({"zero_optimization": {"stage": 9}}, "zero_optimization.stage = 9"),
        ({"train_batch_size": 4}, "train_batch_size = 4.*--batch-size"),
        ({"stge": 4}, "the key stge"),
    ],
)
def test_what_a_config_keeps_is_checked_where_somebody_has_edited_it(adopted, kept, says):
    config, _ = adopted(ZERO2)
    with pytest.raises(UsageError, match=f"config.json, .*{says}"):
        adopt(config.replace(deepspeed=kept), 2)
    assert adopt(config.replace(deepspeed={}), 2).config.deepspeed == {
        "zero_optimization": {"stage": 0}
    }


@pytest.mark.parametrize(
    ("given", "flags", "options", "parts"),
    [
        ({"train_batch_size": 32}, "batch_size", {}, ["train_batch_size = 32", "--batch-size = 8"]),
        (
            {"gradient_accumulation_steps": 4},
            "accumulation",
            {},
            ["gradient_accumulation_steps = 4", "--accumulation = 2"],
        ),
        (
            {"train_micro_batch_size_per_gpu": 8},
            "batch_size accumulation",
            {},
            ["per_gpu = 8", "--batch-size 8", "--accumulation 2", "8 x 2 x 2 = 32"],
        ),
        (
            {"gradient_clipping": 1.0},
            "optimizer.clip",
            {},
            ["clipping = 1.0", "optimizer.clip = 0.5"],
        ),
        ({"bf16": {"enabled": True}}, "precision", {}, ["bf16.enabled = true", "= float32"]),
        (
            {"optimizer": {"type": "Adam", "params": {"lr": 1e-3}}},
            "optimizer.kind",
            {"optimizer": {"kind": "SGD"}},
            ['optimizer.type = "Adam"', "--optimizer.kind = SGD"],
        ),
        (
            {"optimizer": {"params": {"lr": 1e-3}}},
            "optimizer.learning_rate",
            {},
            ["optimizer.params.lr = 0.001", "--optimizer.learning-rate = 0.003"],
        ),
        (
            {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 3}}},
            "schedule.kind",
            {},
            ['scheduler.type = "WarmupLR"', "--schedule.kind = WarmupCosine"],
        ),
        ({"wandb": {"enabled": True}}, "report_to", {"report_to": ("csv",)}, ["wandb", "= csv"]),
    ],
)
def test_a_flag_that_says_otherwise_is_named_with_the_key(adopted, given, flags, options, parts):
    with pytest.raises(UsageError) as refused:
        adopted(given, *flags.split(), **options)
    assert not isinstance(refused.value, UsageErrors)
    assert all(part in str(refused.value) for part in ["zero.json: ", *parts]), refused.value


def test_without_a_command_line_what_differs_from_the_defaults_counts_as_said(settings):
    with pytest.raises(UsageError, match=r"gradient_clipping = 1.0, but --optimizer.clip = 0.5"):
        settings({"gradient_clipping": 1.0})
    assert settings({"bf16": {"enabled": True}}, precision="bf16")["torch_autocast"]["enabled"]


def test_narrow_weights_need_zero(settings):
    with pytest.raises(UsageError, match=r"stage = 0.*--precision = bf16_weights.*Write stage 1"):
        settings({}, precision="bf16_weights")


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ('{"zero_optimization": {"stage": 1}}'.encode("utf-16"), ["UTF-16", "iconv"]),
        ('{"_note": "café", "bf16": {}}'.encode("latin-1"), ["0xe9", "ISO-8859-1 or"]),
        (b"\x1f\x8b\x08\x00", ["gzip"]),
    ],
)
def test_what_is_no_text_is_named(tmp_path, data, parts):
    path = tmp_path / "zero.json"
    path.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        adopt(make_config(path), 1)
    assert "--deepspeed-config" in str(refused.value)
    assert parts[0] in str(refused.value) or parts[-1] in str(refused.value), refused.value


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "zero.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ZERO2).encode())
    assert adopt(make_config(path), 1).config.deepspeed == ZERO2


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
