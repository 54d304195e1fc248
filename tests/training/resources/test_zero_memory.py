"""Memory and communication by ZeRO stage, on numbers that can be worked out by hand.
(`tests/distributed` measures.)"""

from dataclasses import replace

import pytest
import torch

from act.models.looped_transformer import LoopedTransformer
from halting import GravesACT
from training.optimizers.groups import parameter_groups
from training.resources.communication_volume import communication_volume
from training.resources.zero_layout import ZeroLayout
from training.resources.zero_memory import RankMemory, rank_memory

RANKS, DIM = 4, 16


@pytest.fixture(scope="module")
def model() -> LoopedTransformer:
    with torch.device("meta"):
        return LoopedTransformer(
            11, DIM, 2, GravesACT(DIM), max_steps=3, prelude_layers=1, coda_layers=1
        )


def of(model: LoopedTransformer, stage: int, ranks: int = RANKS, **others) -> RankMemory:
    options = {name: others.pop(name) for name in ("accumulation", "cpu", "bf16") if name in others}
    sharing = ZeroLayout(
        stage, ranks, **{"persistence": 0, "bucket": 100, "reuse": 0, "prefetch": 0, **others}
    )
    return rank_memory(
        model, [group["params"] for group in parameter_groups(model, 0.1)], sharing, **options
    )


def size(module: torch.nn.Module) -> int:
    return 4 * sum(each.numel() for each in module.parameters())


def test_what_is_shared(model):
    whole, group = (
        size(model),
        [[p.numel() for p in each["params"]] for each in parameter_groups(model, 0.1)],
    )
    zero, one, two, three = (of(model, stage) for stage in range(4))
    assert (zero.weights, zero.gradients, zero.optimizer, zero.copy) == (whole, whole, 2 * whole, 0)
    share = 4 * sum(-(-sum(sizes) // (2 * RANKS)) * 2 for sizes in group)
    for each in (one, two):
        assert (each.weights, each.copy, each.optimizer) == (RANKS * share, share, 2 * share)
        assert share <= each.gradients <= share + 8 * max(map(max, group)), (
            "whole tensors at either end of a share"
        )
    apart = 4 * sum(-(-number // RANKS) for sizes in group for number in sizes)
    assert (three.weights, three.copy, three.optimizer, three.gradients) == (
        apart,
        apart,
        2 * apart,
        apart,
    )
    assert three.buffers == 4 * 100


def test_gradients_of_a_share_are_whole_tensors(model):
    alone = of(model, 1, ranks=1)
    assert alone.gradients == size(model)
    many = of(model, 1, ranks=1000)
    assert many.gradients >= 4 * max(each.numel() for each in model.parameters()), (
        "the largest tensor, in whole"
    )


def test_stage_3_keeps_what_is_used_again_soon(model):
    let_go, kept = of(model, 3), of(model, 3, reuse=int(1e9))
    assert let_go.gathered == 0 and kept.gathered == size(model)
    assert kept.after_forward(0) - let_go.after_forward(0) == size(model)
    lasting = of(model, 3, persistence=int(1e9))
    assert lasting.weights == let_go.weights + size(model) and lasting.gathered == 0


def test_the_loop_is_whole_while_it_runs(model):
    assert of(model, 3).looping >= size(model.recurrence)


def test_offload_says_what_lies_where(model):
    two, three = (
        of(model, 2, optimizer_on_cpu=True),
        of(model, 3, optimizer_on_cpu=True, parameters_on_cpu=True),
    )
    here = two.held - two.on_cpu
    largest = 4 * max(each.numel() for each in model.parameters())
    assert here == two.weights + largest
    assert three.held - three.on_cpu == 4 * 100, "the bucket alone stays on the device"


def test_accumulation_keeps_more(model):
    for stage, more in ((0, True), (1, True), (2, True), (3, False)):
        assert (of(model, stage, accumulation=2).looping > of(model, stage).looping) == more


def test_a_frozen_parameter_has_neither_gradient_nor_moments():
    model = LoopedTransformer(11, DIM, 2, GravesACT(DIM), max_steps=3)
    model.embedding.requires_grad_(False)
    trained = 4 * sum(each.numel() for each in model.parameters() if each.requires_grad)
    found = of(model, 0)
    assert (found.weights, found.gradients, found.optimizer) == (size(model), trained, 2 * trained)
    assert communication_volume(model, ZeroLayout(0, 2)).sent == trained
    assert communication_volume(
        model, ZeroLayout(3, 2, persistence=0, reuse=0, prefetch=0)
    ).weights == size(model)


def test_traffic_by_hand(model):
    whole, part = size(model), (RANKS - 1) / RANKS
    ways = [ZeroLayout(stage, RANKS, persistence=0, reuse=0, prefetch=0) for stage in range(4)]
    once = [communication_volume(model, way) for way in ways]
    four = [communication_volume(model, way, accumulation=4) for way in ways]
    assert [each.gradients for each in once] == pytest.approx(
        [2 * part * whole] * 3 + [part * whole]
    )
    assert [each.weights for each in once] == pytest.approx(
        [0, part * whole, part * whole, 2 * part * whole]
    )
    assert [each.sent / one.sent for each, one in zip(four, once, strict=True)] == pytest.approx(
        [1, 1, 3, 4]
    )
    kept = communication_volume(model, replace(ways[3], reuse=int(1e9)))
    assert kept.weights == pytest.approx(part * whole)
    assert communication_volume(model, ZeroLayout(2, 1)).sent == 0


def test_bf16_halves_what_linear_layers_send(model):
    plain, half = (
        communication_volume(model, ZeroLayout(2, RANKS), bf16=bf16) for bf16 in (False, True)
    )
    assert half.gradients < 0.6 * plain.gradients and half.weights == plain.weights
    whole = [
        communication_volume(model, ZeroLayout(0, RANKS), bf16=bf16).sent for bf16 in (False, True)
    ]
    assert whole[0] == whole[1]
    rule = GravesACT(DIM)
    rule.more = torch.nn.Linear(DIM, 1)
    exact = LoopedTransformer(11, DIM, 2, rule, max_steps=3)
    plain, half = (
        communication_volume(exact, ZeroLayout(2, RANKS), bf16=bf16) for bf16 in (False, True)
    )
    assert plain == half, (
        "a rule's linear layer has to stay exact, and layers are told apart by their kind"
    )


def test_what_a_ds_config_says():
    zero = {
        "stage": 3,
        "reduce_bucket_size": 5e6,
        "stage3_max_reuse_distance": 0,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "none"},
    }
    found = ZeroLayout.of(zero, 8)
    assert (found.stage, found.ranks, found.bucket, found.reuse, found.prefetch) == (
        3,
        8,
        5_000_000,
        0,
        50_000_000,
    )
    assert found.optimizer_on_cpu and not found.parameters_on_cpu
    names = [way.name for way in found.others()]
    assert names[-1] == "ZeRO-3, AdamW on CPU" and len(set(names)) == len(names) == 7
    assert ZeroLayout.of({"stage": 2}, 8) in ZeroLayout.of({"stage": 2}, 8).others()
