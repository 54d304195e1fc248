"""Configs: every field survives JSON, mistakes are refused in three parts."""

import json
import subprocess
import sys
from typing import Any

import pytest
from echo_configs import ECHO, run_config
from pydantic import BaseModel

from act import LoopBlock, LoopedModel
from halting import HaltingRule, UsageError
from training.config.model_part import ModelPart
from training.config.record import Record
from training.config.run_config import RunConfig
from training.config.sections import (
    HaltingPart,
    LoopConfig,
    OptimizerConfig,
    Part,
    PenaltyConfig,
)


class Widthless(LoopedModel):
    """Has no width."""


class Colliding(LoopBlock):
    """Has an option that is called as a field of the part."""

    def __init__(self, kind: str = "a"):
        super().__init__()


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_every_record_has_a_text_for_every_field():
    for record in (
        LoopConfig,
        Part,
        HaltingPart,
        OptimizerConfig,
        PenaltyConfig,
        RunConfig,
    ):
        assert issubclass(record, Record) and record.__doc__
        for name, info in record.model_fields.items():
            assert info.description, f"{record.__name__}.{name}"


def test_json_round_trip_keeps_every_value():
    config = run_config(
        name="n",
        time_limit=1.5,
        model=ModelPart(num_kv_heads=2, feed_forward_width=24),
        halting=HaltingPart(kind="GravesACT", options={"bias_init": -3.0}, min_steps=2),
        readout=Part(kind="WeightedMean"),
        cost=Part(kind="ExpectedSteps"),
        data=Part(kind=ECHO, options={"sizes": (3, 4)}),
    )
    again = RunConfig.from_json(config.to_json())
    assert again == config
    assert again.to_json() == config.to_json()
    assert set(json.loads(config.to_json())) == set(RunConfig.model_fields)


def test_records_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        run_config().updates = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: run_config(model={"width": 65}),
            ("dim 65", "num_heads=4", "multiple of the heads"),
        ),
        (lambda: run_config(model={"num_kv_heads": 3}), ("num_heads=4", "num_kv_heads=3")),
        (lambda: run_config(model={"width": 12}), ("Rotary", "size 3", "dim 16")),
        (lambda: run_config(model={"width": -4}), ("dim -4",)),
        (
            lambda: run_config(model={"width": "4"}),
            ("--model.width is '4'", "LoopedTransformer of Block takes int there"),
        ),
        (
            lambda: run_config(model={"positions": "rotray"}),
            ("--model.positions is 'rotray'", "'rotary'"),
        ),
        (
            lambda: run_config(model={"widht": 3}),
            ("no option widht", "Did you mean --model.width?"),
        ),
        (
            lambda: run_config(model={"block": "GRUBlock", "num_layers": 2}),
            ("LoopedTransformer of GRUBlock has no option num_layers (--model.num-layers 2)",),
        ),
        (
            lambda: run_config(model={"block": "torch.nn:Linear"}),
            ("LoopedTransformer of Linear lacks its option in_features",),
        ),
        (
            lambda: run_config(model={"kind": f"{__name__}:Widthless", "block": "GRUBlock"}),
            ("takes no width", "`width: int`"),
        ),
        (
            lambda: run_config(model={"block": f"{__name__}:Colliding"}),
            ("has an argument kind", "already means something else"),
        ),
        (
            lambda: LoopConfig(max_steps=0),
            ("--loop.max-steps is 0", "--loop.max-steps 10 (the default)"),
        ),
        (
            lambda: OptimizerConfig(learning_rate=-1.0),
            ("--optimizer.learning-rate is -1.0", "greater than 0"),
        ),
        (lambda: OptimizerConfig(weight_decay=-1.0), ("--optimizer.weight-decay is -1.0", "0")),
        (lambda: PenaltyConfig(value=float("nan")), ("--penalty.value is nan", "finite")),
        (lambda: PenaltyConfig(value=float("inf")), ("--penalty.value is inf", "finite")),
        (
            lambda: PenaltyConfig(value=-0.1),
            ("--penalty.value is -0.1", "greater than or equal to 0"),
        ),
        (lambda: Part(kind="X", options={"a": float("nan")}), ("nan", "JSON")),
        (lambda: Part(), ("Part lacks kind",)),  # pyright: ignore
        (lambda: HaltingPart(kind="GravesACT", min_steps=0), ("--halting.min-steps is 0",)),
        (
            lambda: run_config(batch_size=10, accumulation=4),
            ("--batch-size 10", "--accumulation 4", "--batch-size 12"),
        ),
        (
            lambda: run_config(halting=HaltingPart(kind="GravesACT", min_steps=11)),
            ("--halting.min-steps 11", "--loop.max-steps 10"),
        ),
        (
            lambda: run_config(halting=HaltingPart(kind="GravesACT", options={"bias_inti": 1})),
            (
                "--halting.bias-inti 1",
                "bias_init (float, default -1.0)",
                "Did you mean --halting.bias-init?",
            ),
        ),
        (
            lambda: run_config(halting=HaltingPart(kind="GravesACT", options={"bias_init": "3"})),
            ("--halting.bias-init is '3'", "float"),
        ),
        (lambda: run_config(data=Part(kind="Ecko")), ("--data.kind Ecko", "no task of this name")),
    ],
)
def test_mistakes_are_refused_in_three_parts(make: Any, words: tuple[str, ...]):
    with pytest.raises(UsageError) as refusal:
        make()
    assert all((refusal.value.what, refusal.value.why, refusal.value.write))
    for word in words:
        assert word in str(refusal.value)
    assert "validation error" not in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '"learning_rate"',
            '"lerning_rate"',
            ("optimizer.lerning_rate", "Did you mean learning_rate?"),
        ),
        ('"updates"', '"update"', ("no key update ", "Did you mean updates?")),
        ('"value": null', '"value": NaN', ("NaN", "finite")),
        ('"value": null', '"value": "0.01"', ("--penalty.value is '0.01'", "valid number")),
        ('"updates": 1500', '"updates": 0', ("--updates is 0",)),
        (
            '"kind": "GravesACT"',
            '"kind": "GravesACR"',
            ("--halting.kind GravesACR", "Did you mean GravesACT?"),
        ),
        ('"kind": "GravesACT"', '"kind": 3', ("--halting.kind is 3",)),
        ('"length": 3', '"length": NaN', ("NaN", "JSON")),
        ('"length": 3', '"lenght": 3', ("--data.lenght 3", "Did you mean --data.length?")),
        ("{", "[", ("not JSON",)),
    ],
)
def test_json_that_a_person_spoiled_is_refused(old: str, new: str, words: tuple[str, ...]):
    text = run_config(data=Part(kind=ECHO, options={"length": 3})).to_json()
    assert old in text
    with pytest.raises(UsageError) as refusal:
        RunConfig.from_json(text.replace(old, new, 1))
    for word in words:
        assert word in str(refusal.value)


def test_a_rule_without_a_readout_needs_one_in_the_config():
    with pytest.raises(UsageError, match="names no readout"):
        run_config(halting=HaltingPart(kind=f"{__name__}:Readoutless"))
    run_config(halting=HaltingPart(kind=f"{__name__}:Readoutless"), readout=Part(kind="FinalState"))


class Readoutless(HaltingRule):
    """Forgot its readout."""


def test_configs_need_no_deepspeed():
    code = (
        "import sys, training.config.run_config, training.config.flags; sys.exit('deepspeed' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_field_of_every_group_is_a_record_of_the_house():
    for info in RunConfig.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            assert issubclass(info.annotation, Record)
