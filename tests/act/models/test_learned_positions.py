"""Learned positions begin anew with each document of a row."""

import pytest
import torch

from act import LoopedTransformer
from act.models.learned_positions import document_starts, learned_positions
from act.slots import Slots
from halting import GravesACT, UsageError

LENGTHS = (5, 1, 7)


def model_of(path: str, coda_layers: int, max_length: int = 8) -> LoopedTransformer:
    torch.manual_seed(0)
    return LoopedTransformer(
        11,
        width=16,
        num_heads=2,
        rule=GravesACT(16, bias_init=-0.5),
        max_steps=3,
        causal=True,
        prelude_layers=1,
        coda_layers=coda_layers,
        positions="learned",
        max_length=max_length,
        path=path,  # pyright: ignore[reportArgumentType]
    ).double()


@pytest.mark.parametrize("path", ["packed", "dense"])
@pytest.mark.parametrize("coda_layers", [0, 1])
def test_a_packed_row_is_its_documents_alone(path: str, coda_layers: int):
    model = model_of(path, coda_layers)
    tokens = torch.randint(11, (1, sum(LENGTHS)))
    documents = torch.repeat_interleave(torch.tensor([4, 9, 2]), torch.tensor(LENGTHS))[None]
    packed = model(tokens, documents=documents).logits
    packed.sum().backward()
    gradient = model.position_embedding.weight.grad.clone()  # pyright: ignore[reportOptionalMemberAccess]
    model.zero_grad()
    alone = [model(each).logits for each in tokens.split(LENGTHS, 1)]
    assert torch.allclose(packed, torch.cat(alone, 1), rtol=0, atol=1e-10)
    torch.cat(alone, 1).sum().backward()
    assert torch.allclose(gradient, model.position_embedding.weight.grad, rtol=0, atol=1e-10)  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]


def test_it_is_the_document_that_must_fit():
    tokens = torch.randint(11, (1, 13))
    documents = torch.arange(13)[None] // 7
    model_of("packed", 0, max_length=7)(tokens, documents=documents)
    with pytest.raises(UsageError, match="7 positions is too long"):
        model_of("packed", 0, max_length=6)(tokens, documents=documents)


def test_positions_in_a_cache_count_from_the_documents_beginning():
    documents = torch.tensor([[3, 3, 3, 5, 5, 5, 5, 8]])
    positions = torch.tensor([[4, 6, 7]])
    slots = Slots.of(torch.tensor([[True, True, False]]), positions)
    where, longest = learned_positions(slots, positions, documents)
    assert where[0, :2].tolist() == [1, 3] and longest == 4
    assert learned_positions(slots, positions, None)[0][0, :2].tolist() == [4, 6]
    assert document_starts(documents).tolist() == [[0, 0, 0, 3, 3, 3, 3, 7]]
