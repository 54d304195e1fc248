"""Attention of packed queries without a rectangle: the same answers as the padded one."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from act import Block, Checkpointed, InPlaceCache, Recurrence
from act.layers.attention import AttentionContext, attend
from act.layers.ragged_attention import BLOCK, RaggedAttention, _flex
from act.slots import Slots
from act.testing import assert_close
from halting import GravesACT

pytestmark = pytest.mark.usefixtures("unchecked", "everywhere")

BATCH, LENGTH, HEADS, SIZE = 3, 150, 4, 8


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop attends like this on a CPU, too."""
    monkeypatch.setattr(RaggedAttention, "devices", ("cpu", "cuda"))


def ragged_slots(visible: Tensor | None, seed: int = 0) -> Slots:
    """Some of the visible tokens: many of the first sequence, one of the second, none of the
    last."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(BATCH, LENGTH, generator=generator) < 0.9
    active[1] = torch.arange(LENGTH) == 70
    active[2:] = False
    return Slots.of(active if visible is None else active & visible)


def holes() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    visible = torch.rand(BATCH, LENGTH, generator=generator) < 0.8
    visible[1, 70] = True
    return visible


def heads(slots: Slots, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    queries = torch.randn(len(slots), HEADS, SIZE, generator=generator)
    keys, values = (
        torch.randn(BATCH, LENGTH, kv_heads, SIZE, generator=generator) for _ in range(2)
    )
    return queries, keys, values


def padded_answer(
    slots: Slots, visible: Tensor | None, causal: bool, given: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    queries, keys, values = given
    context = AttentionContext.of(queries.flatten(1), slots, visible, causal, None, 1.0)
    return slots.layout.unpad(attend(slots.layout.pad(queries), keys, values, context))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("visible", [None, holes()], ids=["full", "holes"])
def test_blocks_leave_out_nothing_that_a_query_sees(visible: Tensor | None, causal: bool) -> None:
    slots = ragged_slots(visible)
    mask = RaggedAttention(slots, visible, causal, LENGTH).block_mask
    listed = mask.to_dense()[0, 0].bool()  # block by block
    sees = torch.zeros(len(slots), BATCH, LENGTH, dtype=torch.bool)
    for number, (row, position) in enumerate(
        zip(slots.row.tolist(), slots.position.tolist(), strict=True)
    ):
        sees[number, row] = (
            torch.ones(LENGTH, dtype=torch.bool) if visible is None else visible[row]
        )
        if causal:
            sees[number, row, position + 1 :] = False
    rows, columns = torch.arange(len(slots)), torch.arange(sees[0].numel())
    told = mask.mask_mod(rows, rows, rows[:, None], columns)
    assert torch.equal(told, sees.flatten(1))
    query, key = told.nonzero(as_tuple=True)
    assert listed[query // BLOCK, key // BLOCK].all()
    assert not listed[0, -1] and not listed.all(), "blocks of other sequences are left out"


@pytest.mark.parametrize("kv_heads", [HEADS, 2])
@pytest.mark.parametrize("visible", [None, holes()], ids=["full", "holes"])
def test_it_gives_what_padded_attention_gives(visible: Tensor | None, kv_heads: int) -> None:
    slots = ragged_slots(visible)
    given = heads(slots, kv_heads)
    for causal in (False, True):
        with torch.no_grad():
            mine = RaggedAttention(slots, visible, causal, LENGTH)(*given)
        assert_close(mine, padded_answer(slots, visible, causal, given), "answer")


@pytest.mark.parametrize("visible", [None, holes()], ids=["full", "holes"])
def test_another_number_of_queries_is_no_reason_to_compile_again(visible: Tensor | None) -> None:
    """Traced as on a GPU; the kernel itself is not made, for on a CPU torch 2.13 makes one that
    does not compile."""
    torch._dynamo.reset()
    traced = torch.compile(_flex, backend="eager", dynamic=True, fullgraph=True)
    torch._dynamo.utils.counters.clear()
    sizes = set()
    for seed in range(4):
        slots = ragged_slots(visible, seed)
        sizes.add(len(slots))
        queries, keys, values = (
            each.flatten(0, -3).transpose(0, 1)[None] for each in heads(slots, HEADS)
        )
        with torch.no_grad():
            traced(
                queries,
                keys,
                values,
                RaggedAttention(slots, visible, True, LENGTH).block_mask,
                False,
            )
    assert len(sizes) > 2 and torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_the_bounds_cut_the_batch_into_its_sequences() -> None:
    """What the variable-length kernel is given, worked through sequence by sequence."""
    slots = ragged_slots(None)
    given = queries, keys, values = heads(slots, HEADS)
    attention = RaggedAttention(slots, None, False, LENGTH)
    of_queries, of_keys = (each.tolist() for each in attention.bounds)
    assert (
        attention.whole_sequences
        and attention.bounds[0].dtype == attention.bounds[1].dtype == torch.int32
    )
    assert attention.slots.counted[1] == max(b - a for a, b in pairwise(of_queries))
    answer = torch.cat(
        [
            F.scaled_dot_product_attention(
                queries[of_queries[row] : of_queries[row + 1]].transpose(0, 1),
                keys.flatten(0, 1)[of_keys[row] : of_keys[row + 1]].transpose(0, 1),
                values.flatten(0, 1)[of_keys[row] : of_keys[row + 1]].transpose(0, 1),
            ).transpose(0, 1)
            for row in range(BATCH)
        ]
    )
    assert_close(answer, padded_answer(slots, None, False, given), "answer")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("valid", [None, holes()], ids=["full", "holes"])
def test_a_whole_loop_gives_the_same(valid: Tensor | None, causal: bool) -> None:
    """Law 3, in inference: FlexAttention has no backward pass on a CPU."""
    torch.manual_seed(0)
    padded = Recurrence(Block(32, HEADS, causal=causal), GravesACT(32, bias_init=-0.5), max_steps=5)
    torch.nn.init.normal_(padded.rule.gate.weight, std=0.3)
    ragged = Recurrence(
        Block(32, HEADS, causal=causal, attention="ragged"), padded.rule, max_steps=5
    )
    ragged.block.load_state_dict(padded.block.state_dict())
    x = torch.randn(BATCH, LENGTH, 32)
    with torch.no_grad():
        (mine, trace), (theirs, other) = ragged(x, valid), padded(x, valid)
    assert torch.equal(trace.steps, other.steps) and len(trace.steps.unique()) > 2
    assert_close(mine, theirs, "output")


def test_a_batch_without_tokens_and_one_token_alone() -> None:
    loop = Recurrence(Block(32, HEADS, attention="ragged"), GravesACT(32), max_steps=2)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert not loop(torch.randn(2, 3, 32), nothing)[0].any()
    one = nothing.clone()
    one[1, 2] = True
    x = torch.randn(2, 3, 32)
    with torch.no_grad():
        alone = Recurrence(Block(32, HEADS), loop.rule, max_steps=2)
        alone.block.load_state_dict(loop.block.state_dict())
        assert_close(loop(x, one)[0], alone(x, one)[0], "output")


def test_decoding_into_a_larger_cache() -> None:
    """The capacity is that of the cache, not of the batch."""
    active = torch.tensor([[True, False, True], [False, True, False], [False] * 3])
    slots = Slots.of(active, torch.arange(3).expand(3, 3))
    visible = holes()
    visible[:, :3] = True
    queries, *_ = heads(slots, HEADS)
    cache = InPlaceCache(visible, BATCH, LENGTH)
    new = torch.randn(2, len(slots), HEADS, SIZE)
    both = []
    for ragged in (False, True):
        context = AttentionContext.of(queries.flatten(1), slots, visible, True, None, 1.0, ragged)
        assert (context.ragged is not None) == ragged
        with torch.no_grad():
            both.append(cache.attend(0, queries, *new, slots, context)[0])
    assert_close(*both, "answer")


def _masked(self: RaggedAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What the block mask says, as a dense mask: with a backward pass."""
    rows, columns = torch.arange(len(queries)), torch.arange(len(keys))
    mask = self.block_mask.mask_mod(rows, rows, rows[:, None], columns)
    laid = (each.transpose(0, 1)[None] for each in (queries, keys, values))
    answer = F.scaled_dot_product_attention(
        *laid, attn_mask=mask, enable_gqa=keys.shape[1] != queries.shape[1]
    )
    return answer[0].transpose(0, 1)


@pytest.mark.parametrize("backprop", [None, Checkpointed()], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_the_caches_of_training_give_it_the_rows_of_its_step(
    causal: bool, backprop: Checkpointed | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 3 with gradients. The kernel is stood in for; that it has a backward pass is tested on a
    GPU alone."""
    monkeypatch.setattr(RaggedAttention, "_block_masked", _masked)
    gradients = []
    for attention in ("padded", "ragged"):
        torch.manual_seed(0)
        block = Block(32, HEADS, num_kv_heads=2, num_layers=2, causal=causal, attention=attention)
        loop = Recurrence(
            block, GravesACT(32, bias_init=-0.5), max_steps=5, backprop=backprop
        ).double()
        torch.nn.init.normal_(loop.rule.gate.weight, std=0.3)
        x = torch.randn(BATCH, 20, 32, dtype=torch.float64, requires_grad=True)
        output, trace = loop(x)
        assert len(trace.steps.unique()) > 2
        for _ in range(2):  # a graph may be gone through again
            found = torch.autograd.grad(
                output.sin().sum(), [x, *loop.parameters()], retain_graph=True
            )
        gradients.append(found)
    for number, (one, other) in enumerate(zip(*gradients, strict=True)):
        assert_close(one, other, f"gradient {number}")
