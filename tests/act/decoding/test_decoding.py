"""Caches: decoding step by step equals the parallel pass, and inference writes in place what
training copies."""

import pytest
import torch
from torch import Tensor

from act import (
    Block,
    FunctionalCache,
    InPlaceCache,
    LoopedTransformer,
    Recurrence,
    StepwiseCache,
    generate,
)
from act.testing import assert_close
from halting import FixedSteps, GravesACT, HaltingRule, MaxSteps, MinSteps, PerSequence

BATCH, LENGTH, DIM, LIMIT = 3, 6, 8, 5


def act_rule() -> GravesACT:
    rule = GravesACT(DIM, bias_init=-0.5)
    torch.nn.init.normal_(rule.gate.weight)
    return rule


def causal_loop(rule: HaltingRule) -> Recurrence:
    block = Block(
        DIM,
        2,
        num_kv_heads=1,
        num_layers=2,
        causal=True,
        injection="concat",
        step_signal="sinusoidal",
    )
    return Recurrence(block, rule, max_steps=LIMIT).double().eval()


def decode(
    loop: Recurrence, x: Tensor, chunks: list[int], cache: StepwiseCache | InPlaceCache
) -> tuple[Tensor, Tensor]:
    """Outputs and steps of sequences that are read in chunks."""
    outputs, steps, start = [], [], 0
    assert cache.visible is not None
    for size in chunks:
        cache.visible[:, start : start + size] = True
        positions = torch.arange(start, start + size).expand(BATCH, size)
        output, trace = loop(x[:, start : start + size], cache=cache, positions=positions)
        outputs.append(output)
        steps.append(trace.steps)
        start += size
    return torch.cat(outputs, 1), torch.cat(steps, 1)


def stepwise(capacity: int = LENGTH) -> StepwiseCache:
    return StepwiseCache(torch.zeros(BATCH, capacity, dtype=torch.bool), BATCH, capacity, LIMIT)


@pytest.mark.parametrize("chunks", [[1] * LENGTH, [3, 1, 1, 1], [2, 3, 1], [LENGTH]], ids=str)
@pytest.mark.parametrize(
    "make", [act_rule, FixedSteps, lambda: MinSteps(act_rule(), 2), lambda: MaxSteps(act_rule(), 3)]
)
@torch.no_grad()
def test_decoding_equals_the_parallel_pass(make: type[HaltingRule], chunks: list[int]) -> None:
    loop, x = causal_loop(make()), torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64)
    output, trace = loop(x)
    assert isinstance(loop.rule, FixedSteps) or len(trace.steps.unique()) > 1
    decoded, steps = decode(loop, x, chunks, stepwise())
    assert torch.equal(steps, trace.steps)
    assert_close(decoded, output, "decoded")
    decoded, steps = decode(loop, x, chunks, stepwise(capacity=LENGTH + 3))
    assert_close(decoded, output, "decoded with room to spare")


@torch.no_grad()
def test_keeping_the_last_step_only_is_another_thing() -> None:
    """Or else the test above would not need its cache."""
    loop, x = causal_loop(act_rule()), torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64)
    last = InPlaceCache(torch.zeros(BATCH, LENGTH, dtype=torch.bool), BATCH, LENGTH)
    decoded, _ = decode(loop, x, [1] * LENGTH, last)
    assert (decoded - loop(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("path", ["packed", "dense"])
@pytest.mark.parametrize("make", [act_rule, lambda: PerSequence(act_rule())])
@torch.no_grad()
def test_in_place_equals_functional(make: type[HaltingRule], path: str, padded: bool) -> None:
    block = Block(DIM, 2, num_layers=2, injection="concat").double()
    loop = Recurrence(block, make().double(), max_steps=LIMIT, path=path)  # pyright: ignore[reportArgumentType]
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64)
    valid = torch.arange(LENGTH) < torch.tensor([[6], [4], [1]]) if padded else None
    caches = FunctionalCache(valid), InPlaceCache(valid, BATCH, LENGTH), None
    runs = [loop(x, valid, cache=cache) for cache in caches]
    for output, trace in runs[1:]:
        assert torch.equal(output, runs[0][0]) and torch.equal(trace.mass, runs[0][1].mass)


@pytest.mark.parametrize("lengths", [None, [4, 2, 3]], ids=["full", "ragged"])
def test_generation_says_what_the_parallel_pass_says(lengths: list[int] | None) -> None:
    torch.manual_seed(2)
    model = LoopedTransformer(
        11, DIM, 2, act_rule(), max_steps=LIMIT, causal=True, prelude_layers=1, coda_layers=1
    )
    model.double().eval()
    prompt, new = torch.randint(11, (BATCH, 4)), 4
    starts = [4] * BATCH if lengths is None else lengths
    made = generate(model, prompt, new, lengths=None if lengths is None else torch.tensor(lengths))
    for row, start in enumerate(starts):
        whole = model(made.tokens[row : row + 1, : start + new])
        assert torch.equal(
            whole.logits[0, start - 1 : -1].argmax(-1), made.tokens[row, start : start + new]
        )
        assert torch.equal(whole.trace.steps[0, :-1], made.steps[row, : start + new - 1])
