"""The whole model: how it starts, learned positions, and the names at the top of the package."""

import pytest
import torch
from torch import nn

import act
import halting
from act import LoopedTransformer
from halting import FixedSteps, GravesACT, MinSteps, UsageError

DIM = 8
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)


def model_of(**options: object) -> LoopedTransformer:
    return LoopedTransformer(11, DIM, 2, GravesACT(DIM), **{"max_steps": 3, **options})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_start_at_one_unless_they_are_the_heads(tied: bool) -> None:
    width = 64
    model = LoopedTransformer(
        500,
        width,
        2,
        FixedSteps(),
        max_steps=2,
        positions="learned",
        max_length=500,
        tie_embeddings=tied,
    )
    assert (
        model.position_embedding is not None
        and (model.head.weight is model.embedding.weight) == tied
    )
    for embedding in (model.embedding, model.position_embedding):
        assert embedding.weight.std().item() == pytest.approx(
            width**-0.5 if tied else 1.0, rel=0.05
        )
    assert model.head.weight.std().item() == pytest.approx(width**-0.5, rel=0.05)


def test_a_rule_starts_where_it_says() -> None:
    class Deep(GravesACT):
        def __init__(self, dim: int):
            super().__init__(dim)
            self.linear = nn.Linear(dim, 1)
            nn.init.zeros_(self.linear.weight)

    rule = Deep(DIM)
    LoopedTransformer(11, DIM, 2, MinSteps(rule, 2), max_steps=3)
    assert (rule.linear.weight == 0).all()


def test_sequences_longer_than_the_learned_positions() -> None:
    model = model_of(positions="learned", max_length=5, causal=True)
    tokens = torch.randint(11, (2, 6))
    with pytest.raises(UsageError, match=r"6 positions .*learned 5 of them"):
        model(tokens)
    assert model(tokens[:, :5]).logits.shape == (2, 5, 11)
    assert act.generate(model, tokens[:, :3], 3).tokens.shape == (2, 6), (
        "the last token is never read"
    )
    with pytest.raises(UsageError, match="6 positions"):
        act.generate(model, tokens[:, :3], 4)
    caches = model.decoding_caches(2, 6)
    with torch.no_grad(), pytest.raises(UsageError, match="6 positions"):
        model(tokens[:, :1], caches=caches, positions=torch.full((2, 1), 5))
    assert model_of(max_length=5)(tokens).logits.shape == (2, 6, 11)


@torch.no_grad()
def test_padding_may_hold_any_position() -> None:
    model = model_of(positions="learned", max_length=4, causal=True)
    tokens = torch.randint(11, (3, 4))
    where = torch.arange(4).expand(3, 4)
    wild = torch.where(VALID, where, 1000)
    caches = [model.decoding_caches(3, 4) for _ in range(2)]
    for each in caches:
        each.loop.visible.copy_(VALID)  # pyright: ignore[reportOptionalMemberAccess]
    tame = model(tokens, VALID, caches=caches[0], positions=where)
    assert torch.equal(
        model(tokens, VALID, caches=caches[1], positions=wild).logits[VALID], tame.logits[VALID]
    )


def test_names_at_the_top() -> None:
    from act.decoding.generate import Generation
    from act.models.looped_model import ModelOutput

    assert (
        callable(act.generate) and act.Generation is Generation and act.ModelOutput is ModelOutput
    )
    assert all(hasattr(act, name) for name in act.__all__) and all(
        hasattr(halting, name) for name in halting.__all__
    )
