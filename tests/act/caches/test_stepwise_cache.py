"""Slots at different steps in one call: each writes from its own level on and reads its own, as in
a call for each step."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from act import Block, InPlaceCache, Slots, StepwiseCache
from act.layers.attention import AttentionContext
from act.layers.ragged_attention import RaggedAttention
from act.testing import assert_close

BATCH, LENGTH, DIM, LIMIT = 4, 6, 8, 5


def block_of(causal: bool = True, attention: str = "padded") -> Block:
    torch.manual_seed(1)
    block = Block(
        DIM,
        4,
        num_kv_heads=2,
        num_layers=2,
        causal=causal,
        injection="concat",
        step_signal="sinusoidal",
        attention=attention,  # pyright: ignore[reportArgumentType]
    )
    return block.double()


def numbers(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, DIM, dtype=torch.float64, generator=generator)


def filled(block: Block, tokens: int) -> StepwiseCache:
    """A cache that holds the first tokens of each sequence, which halted at various steps."""
    visible = torch.arange(LENGTH).expand(BATCH, LENGTH) < tokens
    cache = StepwiseCache(visible.clone(), BATCH, LENGTH, LIMIT)
    for position in range(tokens):
        slots = Slots.of(torch.ones(BATCH, 1, dtype=torch.bool), torch.full((BATCH, 1), position))
        state = numbers(BATCH, position)
        for step in range(1, LIMIT + 1):
            stays = (slots.row + position) % LIMIT + 1 >= step
            slots, state = slots.keep(stays), state[stays]
            if not len(slots):
                break
            state = block.step(state, state, slots, cache).state
            slots = slots.next_step()
    return cache


def copy_of(cache: StepwiseCache) -> StepwiseCache:
    other = StepwiseCache(cache.visible, cache.batch, cache.capacity, cache.num_steps)
    other.buffers = {n: (k.clone(), v.clone()) for n, (k, v) in cache.buffers.items()}
    return other


def queries(steps: list[list[int]]) -> Slots:
    """New tokens of each sequence, the first at position 3, each at its own step; 0 for none."""
    step = torch.tensor(steps)
    positions = torch.arange(3, 3 + step.shape[1]).expand_as(step)
    slots = Slots.of(step > 0, positions)
    return slots.at_steps(step[step > 0])


def mixed_and_apart(
    block: Block,
    cache: StepwiseCache | InPlaceCache,
    other: StepwiseCache | InPlaceCache,
    of: Slots,
) -> tuple[Tensor, Tensor]:
    state = numbers(len(of), 20)
    mixed = block.step(state, state, of, cache).state
    apart = torch.zeros_like(mixed)
    for step in of.step.unique():
        rows = (of.step == step).nonzero().squeeze(-1)
        some = of.keep(rows)
        assert some.common_step == int(step)
        apart[rows] = block.step(state[rows], state[rows], some, other).state
    return mixed, apart


CASES = {
    "a token a row": [[1], [3], [2], [5]],
    "some rows alike": [[2], [2], [4], [2]],
    "rows without one": [[0], [3], [0], [1]],
    "several a row, the earlier further on": [[4, 2], [3, 3], [5, 1], [0, 0]],
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("attention", ["padded", "ragged"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_call_of_many_steps_is_a_call_for_each(
    case: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RaggedAttention, "devices", ("cpu", "cuda") if attention == "ragged" else ()
    )
    block = block_of(attention=attention)
    cache = filled(block_of(), 3)
    other = copy_of(cache)
    slots = queries(CASES[case])
    assert slots.common_step is None
    assert cache.visible is not None
    cache.visible[slots.row, slots.position] = True
    mixed, apart = mixed_and_apart(block, cache, other, slots)
    assert_close(mixed, apart, "states")
    for layer, buffers in cache.buffers.items():
        for mine, theirs in zip(buffers, other.buffers[layer], strict=True):
            assert_close(mine, theirs, f"rows of layer {layer}")


@torch.no_grad()
def test_each_query_reads_its_own_level() -> None:
    """Or else the test above would hold of a cache that has one level."""
    cache = filled(block_of(), 3)
    slots = queries([[1], [3], [2], [5]])
    keys, _ = cache.read_each(0, slots)
    for number, (step, row) in enumerate(zip(slots.step.tolist(), slots.row.tolist(), strict=True)):
        alone, _ = cache.read(0, slots.at_steps(torch.full_like(slots.step, step)))
        assert torch.equal(keys[number], alone[row])
    first, last = (cache.read(0, slots.at_steps(torch.full((4,), n)))[0] for n in (1, 5))
    assert not torch.equal(first, last)


@torch.no_grad()
def test_a_block_that_is_not_causal_and_the_whole_rectangle() -> None:
    """Every position is a query, at a step of its own."""
    for causal in (False, True):
        block = block_of(causal)
        cache, other = filled(block, LENGTH), filled(block, LENGTH)
        everyone = Slots.of(torch.ones(BATCH, LENGTH, dtype=torch.bool))
        slots = everyone.at_steps(LIMIT - everyone.position.clamp(max=LIMIT - 1))
        keys, queries = (torch.randn(len(slots), 2 * n, 2).double() for n in (1, 2))
        context = context_of(block, slots, cache)
        mixed, _ = cache.attend(0, queries, keys, keys, slots, context)
        for step in slots.step.unique():
            rows = (slots.step == step).nonzero().squeeze(-1)
            other.write(0, keys[rows], keys[rows], slots.keep(rows))
        for step in slots.step.unique():
            rows = (slots.step == step).nonzero().squeeze(-1)
            some = slots.keep(rows)
            alone, _ = other.attend(
                0, queries[rows], keys[rows], keys[rows], some, context_of(block, some, other)
            )
            assert_close(mixed[rows], alone, f"step {int(step)}")
        for mine, theirs in zip(cache.buffers[0], other.buffers[0], strict=True):
            assert torch.equal(mine, theirs)


def context_of(block: Block, slots: Slots, cache: StepwiseCache) -> AttentionContext:
    return AttentionContext.of(
        numbers(len(slots), 0), slots, cache.visible, block.causal, None, 1.0
    )


@torch.no_grad()
def test_in_place_it_is_the_same_where_only_the_last_step_is_kept() -> None:
    block = block_of()
    visible = torch.arange(LENGTH).expand(BATCH, LENGTH) < 3
    caches = []
    for _ in range(2):
        cache = InPlaceCache(visible.clone(), BATCH, LENGTH)
        prompt = Slots.of(torch.ones(BATCH, 3, dtype=torch.bool))
        block.step(numbers(BATCH * 3, 9), numbers(BATCH * 3, 9), prompt, cache)
        assert cache.visible is not None
        cache.visible[:, 3] = True
        caches.append(cache)
    assert_close(*mixed_and_apart(block, *caches, queries([[1], [3], [2], [5]])), "states")


def test_what_a_loop_knows_of_its_steps_is_not_looked_up() -> None:
    """Slots of a loop carry their step on the host; slots made by hand are read off."""
    slots = Slots.of(torch.ones(2, 3, dtype=torch.bool))
    later = slots.next_step().next_step().keep(torch.tensor([0, 4]))
    assert later.__dict__["common_step"] == later.common_step == 3
    apart = later.at_steps(torch.tensor([2, 4]))
    assert "common_step" not in apart.__dict__ and apart.common_step is None
    assert apart.next_step().common_step is None
    assert apart.keep(torch.tensor([1])).common_step == 4
    assert replace(later, step=torch.tensor([7, 7])).common_step == 7
    assert Slots.of(torch.zeros(2, 3, dtype=torch.bool)).common_step == 1
