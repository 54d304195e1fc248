"""What a block reads beside the states: documents that share a row, memory, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from act import (
    Block,
    Checkpointed,
    GRUBlock,
    KeyValueCache,
    LoopBlock,
    LoopContext,
    LoopedTransformer,
    PlainBlock,
    Recurrence,
    Slots,
    StepwiseCache,
)
from act.layers.ragged_attention import RaggedAttention
from act.loop.backprop import Backprop
from act.segments import Segments
from act.testing import assert_close
from halting import GravesACT, LoopTrace, UsageError

DIM, LIMIT = 8, 5
FIRST, SECOND = 4, 3  # tokens of two documents
DOCUMENTS = torch.tensor([[7] * FIRST + [2] * SECOND, [1] * SECOND + [5] * FIRST])
"""The same two in two rows, the second time in the other order."""


def rule_of(dim: int = DIM) -> GravesACT:
    rule = GravesACT(dim, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    return rule


def loop_of(causal: bool, attention: str = "padded", **options: Any) -> Recurrence:
    torch.manual_seed(24)  # of those where tokens leave at various steps
    block = Block(
        DIM,
        2,
        num_kv_heads=1,
        num_layers=2,
        causal=causal,
        injection="concat",
        step_signal="sinusoidal",
        attention=attention,  # pyright: ignore[reportArgumentType]
    )
    return Recurrence(block, rule_of(), max_steps=LIMIT, **options).double()


def documents() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    first, second = (
        torch.randn(1, length, DIM, dtype=torch.float64, generator=generator).requires_grad_()
        for length in (FIRST, SECOND)
    )
    return first, second


def in_one_row(first: Tensor, second: Tensor) -> Tensor:
    """[2 L ...], the documents side by side, in both orders."""
    return torch.cat((torch.cat((first, second), 1), torch.cat((second, first), 1)))


def apart(packed: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """The two documents' part of a row of [2 L ...]."""
    if row == 0:
        return packed[:1, :FIRST], packed[:1, FIRST:]
    return packed[1:, SECOND:], packed[1:, :SECOND]


def check_equal_to_alone(loop: Recurrence, trains: bool, valid: Tensor | None = None) -> None:
    """Outputs, mass, steps and gradients of documents that share a row are those of each alone."""
    first, second = documents()
    wanted = [first, second, *loop.parameters()]
    context = LoopContext(documents=DOCUMENTS)
    with torch.set_grad_enabled(trains):
        output, trace = loop(in_one_row(first, second), valid, context=context)
        alone = [loop(each) for each in (first, second)]
    assert len(trace.steps.unique()) > 2
    for row in (0, 1):
        for number, (one, run) in enumerate(zip((0, 1), alone, strict=True)):
            steps = run[1].num_steps
            assert_close(apart(output, row)[one], run[0], f"output of document {number}")
            mass = apart(trace.mass, row)[one]
            assert_close(mass[..., :steps], run[1].mass, f"mass of document {number}")
            assert (mass[..., steps:] == 0).all()
            assert torch.equal(apart(trace.steps, row)[one], run[1].steps)
    if not trains:
        return

    def loss(made: Tensor, run: LoopTrace) -> Tensor:
        return made.sin().sum() + run.mass[..., :2].square().sum()

    packed = torch.autograd.grad(loss(output, trace), wanted)
    one_by_one = torch.autograd.grad(2 * sum(loss(*run) for run in alone), wanted)
    for number, (mine, theirs) in enumerate(zip(packed, one_by_one, strict=True)):
        assert_close(mine, theirs, f"gradient {number}")


@pytest.mark.parametrize("cut", [False, True], ids=["masked", "cut"])
@pytest.mark.parametrize("backprop", [Backprop(), Checkpointed()], ids=str)
@pytest.mark.parametrize("path", ["packed", "dense"])
@pytest.mark.parametrize("causal", [False, True])
def test_documents_in_one_row_are_as_each_alone(
    causal: bool, path: str, backprop: Backprop, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segments, "always", cut)
    loop = loop_of(causal, path=path, backprop=backprop)
    check_equal_to_alone(loop, trains=True)
    check_equal_to_alone(loop.eval(), trains=False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("causal", [False, True])
def test_ragged_attention_keeps_documents_apart(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RaggedAttention, "devices", ("cpu", "cuda"))
    check_equal_to_alone(loop_of(causal, "ragged", path="packed").eval(), trains=False)


def test_without_the_numbers_documents_see_each_other() -> None:
    """Or else the tests above would hold of a block that ignores them."""
    first, second = documents()
    loop = loop_of(False)
    together, _ = loop(in_one_row(first, second))
    assert (apart(together, 0)[0] - loop(first)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("path", ["packed", "dense"])
def test_documents_and_padding(path: str) -> None:
    """A hole in the first document is nobody's; the second does not notice."""
    first, second = documents()
    valid = torch.ones(2, FIRST + SECOND, dtype=torch.bool)
    valid[0, 1] = False
    loop = loop_of(False, path=path)
    context = LoopContext(documents=DOCUMENTS)
    output, trace = loop(in_one_row(first, second), valid, context=context)
    hole = torch.tensor([[True, False, True, True]])
    assert_close(apart(output, 0)[0], loop(first, hole)[0], "the document with a hole")
    assert_close(apart(output, 0)[1], loop(second)[0], "the other")
    assert trace.steps[0, 1] == 0


@torch.no_grad()
def test_decoding_keeps_documents_apart() -> None:
    """One token at a time, with the document of every position of the cache."""
    loop = loop_of(True).eval()
    x = in_one_row(*documents())
    context = LoopContext(documents=DOCUMENTS)
    output, trace = loop(x, context=context)
    batch, length, _ = x.shape
    visible = torch.zeros(batch, length, dtype=torch.bool)
    cache = StepwiseCache(visible, batch, length, LIMIT)
    for position in range(length):
        visible[:, position] = True
        now, said = loop(
            x[:, position : position + 1],
            cache=cache,
            positions=torch.full((batch, 1), position),
            context=context,
        )
        assert_close(now, output[:, position : position + 1], f"position {position}")
        assert torch.equal(said.steps, trace.steps[:, position : position + 1])


def test_a_whole_model_keeps_documents_apart() -> None:
    """Prelude and coda too."""
    torch.manual_seed(0)
    model = LoopedTransformer(
        11, DIM, 2, rule_of(), max_steps=LIMIT, prelude_layers=1, coda_layers=1, causal=True
    ).double()
    tokens = torch.randint(11, (1, FIRST + SECOND))
    together = model(tokens, context=LoopContext(documents=DOCUMENTS[:1]), record_lens=True)
    named = model(tokens, documents=DOCUMENTS[:1])
    assert torch.equal(named.logits, together.logits)
    alone = [model(each, record_lens=True) for each in tokens.split((FIRST, SECOND), 1)]
    assert_close(together.logits, torch.cat([each.logits for each in alone], 1), "logits")
    assert together.step_logits is not None
    mine = together.step_logits
    for document, start in zip(alone, (0, FIRST), strict=True):
        theirs = document.step_logits
        assert theirs is not None
        chosen = (mine.index >= start) & (mine.index < start + document.logits.shape[1])
        assert_close(mine.values[chosen], theirs.values, "logits of each step")


class Reader(LoopBlock):
    """Adds to each token what its sequence's memory says on the mean, and noise of its level."""

    reads_context = ("memory", "memory_valid", "noise_level", "extra")

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(
        self, entering: Tensor, slots: Slots, cache: KeyValueCache, context: LoopContext
    ) -> tuple[Tensor, KeyValueCache]:
        assert context.memory is not None and context.memory_valid is not None
        assert context.noise_level is not None
        there = context.memory_valid.unsqueeze(-1)
        said = (context.memory * there).sum(1) / there.sum(1)  # [B D]
        level = slots.take_rows(context.noise_level).unsqueeze(-1)  # [A 1]
        own = slots.take(context.extra["bias"])  # [A D]
        move = self.linear(slots.blank_idle(entering) + slots.take_rows(said)) * level + own
        return entering + slots.blank_idle(move.tanh()), cache


def reader_context() -> LoopContext:
    generator = torch.Generator().manual_seed(9)
    memory, level, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((2, 3, DIM), (2,), (2, 4, DIM))
    )
    there = torch.tensor([[True, True, False], [True, False, False]])
    return LoopContext(memory, there, level, extra={"bias": bias})


def reader_loop(**options: Any) -> Recurrence:
    torch.manual_seed(10)
    return Recurrence(Reader(), rule_of(), max_steps=LIMIT, **options).double()


def test_every_step_reads_the_context_on_both_paths() -> None:
    x = torch.randn(2, 4, DIM, dtype=torch.float64)
    valid = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0]], dtype=torch.bool)
    outcomes = []
    for options in ({"path": "packed"}, {"path": "dense"}, {"backprop": Checkpointed()}):
        loop = reader_loop(**options)
        context = reader_context()
        output, trace = loop(x, valid, context=context)
        assert trace.num_steps > 1
        wanted = [each for each in context.given.values() if each.requires_grad]
        assert len(wanted) == 3
        found = torch.autograd.grad(output.sin().sum(), [*wanted, *loop.parameters()])
        assert all((each != 0).any() for each in found[:3])
        outcomes.append([output, trace.mass, *found])
    for other in outcomes[1:]:
        for number, (mine, theirs) in enumerate(zip(outcomes[0], other, strict=True)):
            assert_close(mine, theirs, f"tensor {number}")


def test_law_6_holds_of_the_context() -> None:
    """Every tensor that leaves the loop reaches it, also where no token is valid."""
    context = reader_context()
    loop = reader_loop()
    x = torch.randn(2, 4, DIM, dtype=torch.float64, requires_grad=True)
    wanted = [each for each in context.given.values() if each.requires_grad]
    for valid in (None, torch.zeros(2, 4, dtype=torch.bool)):
        output, trace = loop(x, valid, context=context)
        for tensor in (output, trace.mass, trace.score):
            for gradient in torch.autograd.grad(tensor.sum(), wanted, retain_graph=True):
                assert gradient.isfinite().all()


class Conditioned(nn.Module):
    def forward(self, x: Tensor, condition: LoopContext) -> Tensor:
        assert condition.noise_level is not None
        return x * condition.noise_level[:, None, None]


def test_a_module_of_ones_own_is_handed_the_context() -> None:
    block = PlainBlock(Conditioned(), positionwise=True, context_argument="condition")
    loop = Recurrence(block, rule_of(), max_steps=1)
    x = torch.randn(2, 3, DIM)
    output, _ = loop(x, context=LoopContext(noise_level=torch.tensor([2.0, 3.0])))
    assert torch.allclose(output, x * torch.tensor([2.0, 3.0])[:, None, None])


@pytest.mark.parametrize(
    ("block", "context", "message"),
    [
        (Block(DIM, 2), LoopContext(memory=torch.zeros(2, 3, DIM)), "a context with memory"),
        (Block(DIM, 2), LoopContext(extra={"a": torch.zeros(2)}), r"a context with extra\.a"),
        (
            PlainBlock(nn.Identity()),
            LoopContext(documents=torch.zeros(2, 4, dtype=torch.int64)),
            "PlainBlock was given a context with documents",
        ),
        (
            Block(DIM, 2),
            LoopContext(documents=torch.zeros(3, 4, dtype=torch.int64)),
            "for a batch of 2",
        ),
        (
            Block(DIM, 2),
            LoopContext(documents=torch.zeros(2, 5, dtype=torch.int64)),
            "has 5 positions, and the keys have 4",
        ),
    ],
)
def test_what_is_refused(block: LoopBlock, context: LoopContext, message: str) -> None:
    loop = Recurrence(block, rule_of(), max_steps=2)
    with pytest.raises(UsageError, match=message):
        loop(torch.randn(2, 4, DIM), context=context)


@pytest.mark.usefixtures("unchecked")
def test_documents_that_are_no_whole_numbers_are_refused() -> None:
    loop = loop_of(False)
    context = LoopContext(documents=torch.zeros(2, 4))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match=r"documents has dtype float32"):
        loop(torch.randn(2, 4, DIM, dtype=torch.float64), context=context)


def test_tokens_that_do_not_see_each_other_take_documents_as_they_are() -> None:
    loop = Recurrence(GRUBlock(DIM), rule_of(), max_steps=3)
    x = torch.randn(2, FIRST + SECOND, DIM)
    assert torch.equal(loop(x)[0], loop(x, context=LoopContext(documents=DOCUMENTS))[0])
