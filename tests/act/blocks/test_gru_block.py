"""A GRU cell as the looped block: the published equations, packed as dense, padding, whole models
that read vectors."""

import pytest
import torch
from torch import Tensor

from act import GRUBlock, LoopedTransformer, Recurrence
from act.testing import assert_close, naive
from halting import FinalState, FixedSteps, GravesACT, PerSequence, UsageError

BATCH, LENGTH, DIM, LIMIT = 3, 4, 8, 5
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]], dtype=torch.bool)


def loop_of(path: str, fixed: bool = False) -> Recurrence:
    torch.manual_seed(3)
    rule = FixedSteps() if fixed else GravesACT(DIM, bias_init=-0.5)
    if isinstance(rule, GravesACT):
        torch.nn.init.normal_(rule.gate.weight, std=3.0)
    readout = FinalState() if fixed else None
    return Recurrence(GRUBlock(DIM), rule, readout, max_steps=LIMIT, path=path).double()  # pyright: ignore[reportArgumentType]


def gru(cell: torch.nn.GRUCell, x: Tensor, state: Tensor) -> Tensor:
    """Cho et al. 2014, with the reset gate inside the candidate."""
    read = (cell.weight_ih @ x + cell.bias_ih).split(DIM)
    kept = (cell.weight_hh @ state + cell.bias_hh).split(DIM)
    reset, update = ((a + b).sigmoid() for a, b in zip(read[:2], kept[:2], strict=True))
    candidate = (read[2] + reset * kept[2]).tanh()
    return (1 - update) * candidate + update * state


def test_each_token_is_a_chain_of_cells_on_the_same_input() -> None:
    loop = loop_of("packed", fixed=True)
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64)
    output, _ = loop(x, VALID)
    assert isinstance(loop.block, GRUBlock)
    for row, position in VALID.nonzero().tolist():
        state = x[row, position]
        for _ in range(LIMIT):
            state = gru(loop.block.cell, x[row, position], state)
        assert_close(output[row, position], state, f"token {row}, {position}")
    assert (output[~VALID] == 0).all()


@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "padded"])
def test_packed_equals_dense_and_padding_reaches_nobody(valid: Tensor | None) -> None:
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64)
    runs = []
    for path in ("packed", "dense"):
        loop = loop_of(path)
        given = x.clone() if valid is None else torch.where(valid.unsqueeze(-1), x, torch.nan)
        output, trace = loop(given.requires_grad_(), valid)
        loss = (output.sin().sum() + trace.mass.square().sum()) / 3
        runs.append((output, trace.steps, *torch.autograd.grad(loss, [given, *loop.parameters()])))
    assert len(runs[0][1].unique()) > 2, "tokens leave together"
    for packed, dense in zip(*runs, strict=True):
        assert_close(packed, dense, "packed against dense")


def test_a_model_reads_vectors_through_a_linear_map() -> None:
    model = LoopedTransformer(
        2, DIM, 2, GravesACT(DIM), max_steps=3, block=GRUBlock(DIM), vector_size=7
    )
    vectors = torch.randint(-1, 2, (5, 1, 7))
    output = model(vectors)
    assert output.logits.shape == (5, 1, 2) and output.trace.steps.shape == (5, 1)
    assert isinstance(model.embedding, torch.nn.Linear)
    loop, _ = model.recurrence(vectors.float() @ model.embedding.weight.T)
    assert_close(output.logits, model.head(model.norm(loop)), "logits")
    with torch.autocast("cpu", torch.bfloat16):
        assert model(vectors).trace.mass.dtype == torch.float32
    with pytest.raises(UsageError, match="vector_size=7"):
        LoopedTransformer(2, DIM, 2, FixedSteps(), max_steps=3, vector_size=7, tie_embeddings=True)


def test_a_causal_model_refuses_rules_that_look_ahead() -> None:
    with pytest.raises(UsageError, match="causal"):
        Recurrence(GRUBlock(DIM, causal=True), PerSequence(GravesACT(DIM)), max_steps=3)
    Recurrence(GRUBlock(DIM), PerSequence(GravesACT(DIM)), max_steps=3)


def test_the_cell_equals_its_naive_form() -> None:
    torch.manual_seed(0)
    rule = GravesACT(DIM, bias_init=-0.5).double()
    torch.nn.init.normal_(rule.gate.weight)
    loop = Recurrence(GRUBlock(DIM), rule, max_steps=LIMIT).double()
    x = torch.randn(2, 3, DIM, dtype=torch.float64)
    output, trace = loop(x)
    expected = naive.run(loop, x)
    assert len(expected.steps.unique()) > 1 and torch.equal(trace.steps, expected.steps)
    assert_close(output, expected.output, "output")
