"""What the block, the loop and the rules refuse, each in three parts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from act import Block, LoopedTransformer, Recurrence, StepwiseCache
from halting import FixedSteps, GravesACT, MaxSteps, MinSteps, UsageError
from halting.wrappers.stop_at import StopAt

DIM = 8
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)


def model_of(**options: object) -> LoopedTransformer:
    return LoopedTransformer(11, DIM, 2, GravesACT(DIM), **{"max_steps": 3, **options})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Block(10, 4), "dim 10 .* num_heads=4.*Write num_heads=2"),
        (lambda: Block(8, 0), "dim 8 .* num_heads=0"),
        (
            lambda: Block(8, 4, num_kv_heads=3),
            "num_heads=4 .* num_kv_heads=3.*Write num_kv_heads=2",
        ),
        (lambda: Block(8, 4, num_kv_heads=0), "num_kv_heads=0"),
        (lambda: Block(6, 2), "heads of size 3 .*Write dim 8"),
        (lambda: model_of(positions="learned"), "max_length=None"),
        (lambda: FixedSteps(0), "FixedSteps cannot leave at step 0"),
        (lambda: FixedSteps(-2), "step -2"),
        (lambda: MinSteps(GravesACT(DIM), 0), "MinSteps cannot wrap GravesACT with steps=0"),
        (lambda: MaxSteps(GravesACT(DIM), 0), "MaxSteps cannot wrap GravesACT with steps=0"),
        (lambda: StopAt(GravesACT(DIM), 0), "StopAt cannot wrap GravesACT with steps=0"),
        (lambda: GravesACT(DIM, epsilon=1.0), "epsilon is 1.0"),
        (lambda: GravesACT(DIM, epsilon=-0.01), "epsilon is -0.01"),
        (lambda: GravesACT(DIM, epsilon=float("nan")), "epsilon is nan"),
    ],
)
def test_what_cannot_be_built(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make()
    assert caught.value.what and caught.value.why and caught.value.write


def test_what_is_just_allowed() -> None:
    Block(6, 2, rotary=False), Block(8, 4, num_kv_heads=1), Block(8, 4, num_kv_heads=4)
    FixedSteps(1), MinSteps(FixedSteps(), 1), MaxSteps(FixedSteps(), 1), GravesACT(DIM, epsilon=0.0)


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        (VALID[:, :3], r"shape \(3, 3\), for an input of batch 3 and length 4"),
        (VALID[0], r"shape \(4,\)"),
        (VALID.long(), "dtype int64.*valid.bool()"),
        (VALID.float(), "dtype float32"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_mask_of_another_shape_or_dtype(valid: Tensor, words: str) -> None:
    """The shapes in signatures, checked under tests only, would refuse it earlier, in other
    words."""
    loop, model = Recurrence(Block(DIM, 2), GravesACT(DIM), max_steps=3), model_of()
    with pytest.raises(UsageError, match=words):
        loop(torch.randn(3, 4, DIM), valid)
    with pytest.raises(UsageError, match=words):
        model(torch.zeros(3, 4, dtype=torch.int64), valid)


def test_a_cache_without_room_for_the_steps() -> None:
    loop = Recurrence(Block(DIM, 2, causal=True), FixedSteps(), max_steps=3)
    x, positions = torch.randn(1, 2, DIM), torch.arange(2).unsqueeze(0)
    cache = StepwiseCache(torch.ones(1, 2, dtype=torch.bool), 1, 2, num_steps=3)
    with torch.no_grad():
        with pytest.raises(
            UsageError, match="max_steps is 4, but the StepwiseCache was made for 3 steps"
        ):
            loop(x, cache=cache, positions=positions, max_steps=4)
        assert (loop(x, cache=cache, positions=positions)[1].steps == 3).all()
