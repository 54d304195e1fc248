"""The cache of packed training: the gradients of the functional one, memory that follows the active
tokens."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from act import (
    Block,
    Checkpointed,
    FunctionalCache,
    InPlaceCache,
    Recurrence,
    RewindingCache,
    Truncated,
)
from act.slots import Slots
from act.testing import assert_close
from benchmarks.compute.saved_bytes import saved_bytes
from halting import GravesACT, LoopTrace

BATCH, LENGTH, DIM, LIMIT = 3, 5, 8, 6
VALID = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 1]], dtype=torch.bool)


def loop_of(
    dim: int = DIM, heads: int = 4, kv_heads: int = 2, causal: bool = False, **options
) -> Recurrence:
    """One whose tokens leave at widely different steps."""
    torch.manual_seed(3)
    block = Block(
        dim,
        heads,
        num_kv_heads=kv_heads,
        num_layers=2,
        causal=causal,
        rotary=dim > 8,
        injection="concat",
    )
    rule = GravesACT(dim, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    return Recurrence(block, rule, max_steps=LIMIT, **options).double()


def inputs(dim: int = DIM, length: int = LENGTH) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(
        BATCH, length, dim, dtype=torch.float64, generator=generator
    ).requires_grad_()


def gradients(loss: Tensor, loop: Recurrence, x: Tensor, keep: bool = True) -> list[Tensor]:
    found = torch.autograd.grad(loss, [x, *loop.parameters()], retain_graph=keep, allow_unused=True)
    return [torch.zeros(()) if each is None else each for each in found]


def both(
    loop: Recurrence, x: Tensor, valid: Tensor | None
) -> tuple[tuple[Tensor, LoopTrace], tuple[Tensor, LoopTrace]]:
    """Output and trace with the rewinding cache and with the functional one."""
    visible = None if valid is None else valid
    rewound, functional = RewindingCache(visible), FunctionalCache(visible)
    mine, theirs = loop(x, valid, cache=rewound), loop(x, valid, cache=functional)
    assert len(mine[1].steps.unique()) > 2
    return mine, theirs


def assert_same(mine: list[Tensor], theirs: list[Tensor]) -> None:
    for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        assert_close(one, other, f"gradient {number}")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "holes"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("backprop", [None, Truncated(1), Truncated(2)], ids=str)
def test_it_gives_what_the_functional_cache_gives(
    backprop: Truncated | None, kv_heads: int, valid: Tensor | None, causal: bool
) -> None:
    loop, x = loop_of(kv_heads=kv_heads, causal=causal, backprop=backprop), inputs()
    (mine, trace), (theirs, other) = both(loop, x, valid)
    assert_close(mine, theirs, "output")
    assert_same(
        gradients((mine.sin() + trace.mass.sum(-1, keepdim=True)).sum(), loop, x),
        gradients((theirs.sin() + other.mass.sum(-1, keepdim=True)).sum(), loop, x),
    )


def test_one_head_as_wide_as_the_sequence_is_long() -> None:
    """There a mask has the shape of an answer."""
    loop, x = loop_of(dim=8, heads=1, kv_heads=1, causal=True), inputs(length=8)
    (mine, _), (theirs, _) = both(loop, x, None)
    assert_same(gradients(mine.sin().sum(), loop, x), gradients(theirs.sin().sum(), loop, x))


@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "holes"])
def test_a_graph_can_be_gone_through_again_whole_or_in_part(valid: Tensor | None) -> None:
    """Each pass starts where it starts, wherever the one before left the buffer."""
    loop, x = loop_of(), inputs()
    (mine, trace), (theirs, other) = both(loop, x, valid)
    first_two = torch.arange(trace.num_steps) < 2
    losses: list[Callable[[Tensor, LoopTrace], Tensor]] = [
        lambda output, _: output.sin().sum(),
        lambda _, run: (run.mass * first_two).square().sum(),
        lambda output, run: (output.sum(-1) * run.mass[..., 0]).sum(),
        lambda _, run: run.mass[..., 0].square().sum(),
        lambda output, _: output.cos().sum(),
        lambda _, run: (run.score * first_two).sin().sum(),
    ]
    for loss in losses:
        assert_same(gradients(loss(mine, trace), loop, x), gradients(loss(theirs, other), loop, x))


def test_a_pass_that_is_cut_short_leaves_nothing_for_the_next() -> None:
    """Gradients of frozen rows that nobody came for must not turn up in another pass."""
    loop, x = loop_of(), inputs()
    outcomes = []
    for cache in (RewindingCache(None), FunctionalCache(None)):
        states: list[Tensor] = []
        hook = loop.block.register_forward_hook(
            lambda _, __, made, states=states: states.append(made[0])
        )
        output, trace = loop(x, cache=cache)
        hook.remove()
        late = states[3]
        torch.autograd.grad(output.sin().sum(), late, retain_graph=True)
        outcomes.append(gradients(trace.mass[..., :3].square().sum(), loop, x))
    assert_same(*outcomes)


def test_losses_can_be_added_up_over_two_passes() -> None:
    loop, x = loop_of(), inputs()
    totals = []
    for cache in (RewindingCache(None), FunctionalCache(None)):
        output, trace = loop(x, cache=cache)
        output.sin().sum().backward(retain_graph=True)
        trace.mass.square().sum().backward()
        assert x.grad is not None
        totals.append([x.grad, *(parameter.grad for parameter in loop.parameters())])
        x.grad = None
        loop.zero_grad()
    assert_same(*totals)


def test_under_autocast_it_is_the_functional_cache_too() -> None:
    loop, x = loop_of().float(), inputs().detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        (mine, _), (theirs, _) = both(loop, x, None)
    assert torch.equal(mine, theirs)
    for one, other in zip(
        gradients(mine.sum(), loop, x), gradients(theirs.sum(), loop, x), strict=True
    ):
        assert_close(one.bfloat16(), other.bfloat16(), "gradient")


def test_the_loop_takes_it_where_it_can() -> None:
    """Packed and not computed again; the dense path and checkpointed backprop have the functional
    one."""
    loop = loop_of()
    slots = Slots.of(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    assert isinstance(loop._fresh_cache(slots, None, True), RewindingCache)
    assert isinstance(loop._fresh_cache(slots, None, False), FunctionalCache)
    assert isinstance(
        loop_of(backprop=Checkpointed())._fresh_cache(slots, None, True), FunctionalCache
    )
    with torch.no_grad():
        assert isinstance(loop._fresh_cache(slots, None, True), InPlaceCache)


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_bytes_saved_for_backward_follow_the_active_tokens(causal: bool, kv_heads: int) -> None:
    """Packed ÷ bare dense ÷ share of active token-steps. With functional buffers it is 1.2 and
    more."""
    torch.manual_seed(0)
    block = Block(64, 4, num_kv_heads=kv_heads, num_layers=2, causal=causal, injection="concat")
    rule = GravesACT(64, bias_init=-1.0)
    nn.init.normal_(rule.gate.weight, std=0.3)
    loop = Recurrence(block, rule, max_steps=8)
    x, parameters = torch.randn(4, 64, 64), list(loop.parameters())
    slots = Slots.of(torch.ones(4, 64, dtype=torch.bool))

    def dense() -> Tensor:
        state = flat = x.flatten(0, 1)
        for _ in range(8):
            state, _ = block(block.enter(state, flat, slots), slots, FunctionalCache(None))
        return state

    share = loop(x)[1].steps.float().mean().item() / 8
    assert 0.3 < share < 0.7
    whole = saved_bytes(dense, parameters)
    ratio = saved_bytes(lambda: loop(x), parameters) / whole / share
    functional = (
        saved_bytes(lambda: loop(x, cache=FunctionalCache(None)), parameters) / whole / share
    )
    assert ratio <= 1.06 < 1.1 < functional, f"{ratio:.3f}, functional {functional:.3f}"


def test_the_graph_is_freed_with_its_last_holder() -> None:
    """No cycle between nodes and buffers: memory must not wait for the garbage collector."""
    loop, x = loop_of(), inputs()
    gc.collect()
    gc.disable()
    try:
        cache = RewindingCache(None)
        output, trace = loop(x, cache=cache)
        layer = cache.layers[0]
        assert layer.buffer is not None and len(layer.nodes) > 2
        nodes, buffer = list(layer.nodes), weakref.ref(layer.buffer[0])
        output.sum().backward()
        del output, trace, cache, layer
        assert all(node() is None for node in nodes) and buffer() is None
    finally:
        gc.enable()
