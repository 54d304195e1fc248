"""What `--dry-run` says is what a real model has, computes and holds."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from echo_runs import ECHO, FIXED, KINDS, LENGTH, NEVER, SHAPES, make
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from act.accounting.activation_memory import activation_bytes
from benchmarks.memory.live_tensors import LiveTensors
from halting.errors import UsageError
from training.build import build_all, build_model, build_task
from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import OptimizerConfig, Part
from training.engine.local import LocalEngine
from training.objectives import CrossEntropy
from training.resources.dry_run import plan
from training.resources.dry_run_text import dry_run_text


def counted(config: RunConfig) -> tuple[int, int]:
    """FLOPs of a real forward pass, and of a forward and a backward pass. (On a CPU the counter
    knows attention only as the products of the math backend.)"""
    built = build_all(config)
    batch = built.task.batch("train", 0, config.batch_size)
    figures = []
    for backward in (False, True):
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            terms = CrossEntropy()(built.model(batch.tokens), batch, built.cost)
            if backward:
                (terms.task + terms.cost).backward()
        figures.append(counter.get_total_flops())
    return figures[0], figures[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("halting", [FIXED, NEVER], ids=["fixed", "act"])
@pytest.mark.parametrize("steps", [1, 3])
def test_flops_are_those_that_torch_counts(shape, causal, halting, steps):
    config = make(shape, halting, steps, {"causal": causal})
    flops, (forward, training) = plan(config).flops, counted(config)
    tokens = config.batch_size * LENGTH
    assert tokens * flops.forward(steps) == forward
    assert tokens * flops.training(steps) == training


def test_flops_of_a_readout_that_answers_at_every_step():
    config = make("whole", NEVER, 3, readout=Part(kind="EveryStep"))
    assert config.batch_size * LENGTH * plan(config).flops.forward(3) == counted(config)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_of_checkpointed_backprop(shape):
    config = make(shape, FIXED, 3, loop={"backprop": "checkpointed"})
    assert config.batch_size * LENGTH * plan(config).flops.training(3) == counted(config)[1]
    assert plan(config).flops.training(3) > plan(make(shape, FIXED, 3)).flops.training(3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("halting", [FIXED, NEVER], ids=["fixed", "act"])
def test_parameters_are_those_of_the_real_model(shape, halting):
    config = make(shape, halting)
    found, (model, _) = plan(config).parameters, build_model(config, build_task(config))
    assert found["total"] == sum(each.numel() for each in model.parameters())
    assert sum(found.values()) == 2 * found["total"], "the parts make up the whole"
    assert found["looped block"] == sum(
        each.numel() for each in model.recurrence.block.parameters()
    )
    assert found["halting rule"] == (0 if halting is FIXED else 33)
    assert found["output head"] == (0 if shape == "tied" else 32 * KINDS)


def test_memory_is_what_the_local_engine_holds():
    config = make("whole", NEVER)
    built = build_all(config)
    engine = LocalEngine(built.model, OptimizerConfig(), torch.device("cpu"))
    batch = built.task.batch("train", 0, 8)
    gradients = []
    for _ in range(2):  # the moments come with the first step
        terms = CrossEntropy()(engine.forward(batch), batch, built.cost)
        engine.backward(terms.task + terms.cost)
        gradients.append(
            sum(each.grad.nbytes for each in built.model.parameters() if each.grad is not None)
        )
        engine.step(1e-3)
    moments = [
        value
        for state in engine.optimizer.state.values()
        for value in state.values()
        if value.dim()
    ]
    alone = plan(config).own
    assert alone.sharing.name == "plain PyTorch"
    assert alone.weights == sum(each.nbytes for each in built.model.parameters())
    assert alone.gradients == gradients[-1]
    assert alone.optimizer == sum(each.nbytes for each in moments)
    assert (alone.copy, alone.buffers, alone.gathered) == (0, 0, 0)
    assert alone.held == alone.weights + alone.gradients + alone.optimizer


def held(config: RunConfig, bf16: bool) -> int:
    """Bytes held between a real forward pass and its backward pass."""
    built = build_all(config)
    batch, live = (
        built.task.batch("train", 0, config.batch_size),
        LiveTensors(built.model.parameters()),
    )
    with live:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = built.model(batch.tokens)
        terms = CrossEntropy()(output, batch, built.cost)
    assert terms.task.requires_grad
    return live.bytes()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("shape", "readout"),
    [
        *product(["plain", "grouped", "whole"], ["WeightedMean", "EveryStep"]),
        ("gru", "WeightedMean"),
    ],
)
def test_activations_are_near_what_autograd_holds(shape, readout, bf16):
    config = make(shape, NEVER, 4, batch_size=16, readout=Part(kind=readout))
    model, _ = build_model(config, build_task(config))
    assert activation_bytes(model, 16 * LENGTH, 4, bf16=bf16) == pytest.approx(
        held(config, bf16), rel=0.1
    )


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", ["plain", "grouped", "whole", "gru"])
def test_what_a_step_more_keeps_under_checkpointing(shape, bf16):
    # By differences: the step that is computed again exists in the backward pass only.
    made = [make(shape, NEVER, steps, loop={"backprop": "checkpointed"}) for steps in (2, 6)]
    model, _ = build_model(made[0], build_task(made[0]))
    few, many = (
        activation_bytes(model, 8 * LENGTH, steps, checkpointed=True, bf16=bf16) for steps in (2, 6)
    )
    assert many - few == pytest.approx(held(made[1], bf16) - held(made[0], bf16), rel=0.1)


def test_a_large_model_has_no_weights_here():
    config = RunConfig(
        recipe="large",
        data=Part(kind=ECHO, options={"kinds": 256, "length": 1024, "causal": True}),
        model=ModelPart(width=8192, num_heads=64, num_layers=100),
    )
    found = plan(config)  # 300 GB, were it real
    assert found.own.weights > 250e9
    assert found.parameters["total"] * 4 == found.own.weights


def test_text_fits_80_columns_and_names_what_matters(tmp_path: Path):
    (tmp_path / "zero.json").write_text(
        '{"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, '
        '"reduce_bucket_size": 1000}}'
    )
    config = make(
        "whole",
        {**NEVER, "min_steps": 2, "per_sequence": True},
        precision="bf16",
        deepspeed_config=str(tmp_path / "zero.json"),
    )
    text = dry_run_text(config, 4)
    table = [line for line in text.splitlines() if str(tmp_path) not in line]
    assert max(map(len, table)) <= 80
    assert text.isascii() and not any(line != line.rstrip() for line in text.splitlines())
    for words in (
        "4 ranks",
        "GravesACT",
        "at least 2 steps",
        "whole sequences",
        "WeightedMean (the rule's own)",
    ):
        assert words in text
    assert "StepsPlusRemainder (the rule's own), penalty 0.01" in text
    assert "ZeRO-0 *" not in text
    assert "ZeRO-3, AdamW on CPU *" in text and "of ZeRO-3, AdamW on CPU, " in text
    assert "Stage 3 keeps weights gathered" in text and "sent per update and rank" in text
    assert "full backprop *" in text


def test_no_cost_is_said(tmp_path: Path):
    assert "cost       none" in dry_run_text(make())


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    dry_run_text(make(name="kept"))
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused(tmp_path: Path):
    (tmp_path / "taken" / "final").mkdir(parents=True)
    with pytest.raises(UsageError, match="exists already"):
        plan(make(name="taken", output=str(tmp_path)))
    assert not plan(make(name="free", output=str(tmp_path))).notes


def test_ranks_without_deepspeed_are_noted():
    assert any("--deepspeed-config" in note for note in plan(make(), 2).notes)


@pytest.mark.parametrize(
    ("settings", "changes", "said"),
    [
        (
            {"train_batch_size": 8},
            {"batch_size": 4},
            "train_batch_size = 8, but --batch-size = 4",
        ),
        ({"optimizer": {"type": "Lamb"}}, {}, "optimizer.type"),
        ({"zero_optimization": {"stage": 4}}, {}, "stage = 4"),
        ({}, {"batch_size": 9}, "--batch-size 9 cannot be shared by 2 ranks"),
    ],
)
def test_conflicts_are_refused(settings, changes, said, tmp_path: Path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=said):
        dry_run_text(make(deepspeed_config=str(path), **changes), 2)


def test_a_precision_that_training_would_refuse():
    with pytest.raises(UsageError, match="--precision fp16 on a CPU"):
        dry_run_text(make(precision="fp16", device="cpu"))
    assert dry_run_text(make(precision="fp16", device="cuda"))


def test_a_cost_that_its_rule_cannot_pay_is_refused():
    with pytest.raises(UsageError, match="FixedSteps"):
        dry_run_text(make(cost=Part(kind="StepsPlusRemainder")))
