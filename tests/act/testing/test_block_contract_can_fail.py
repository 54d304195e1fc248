"""A block that breaks one promise each: the contract must say which."""

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import act.loop.backprop
from act import Backprop, Block, Checkpointed, KeyValueCache, LoopBlock, LoopContext, Slots
from act.context import NO_CONTEXT
from act.testing import BlockContract


class Plain(LoopBlock):
    """Tokens do not see each other; a subclass breaks something."""

    def __init__(self, dim: int, causal: bool):
        super().__init__()
        self.causal = causal
        self.dim = dim
        self.linear = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.2)

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return self.dropout(torch.tanh(self.linear(slots.blank_idle(x))))

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        return self.made(entering, slots), cache


class OverTheBatch(Plain):
    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return super().made(x, slots) - x.mean()


class BatchNorm(Plain):
    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, causal)
        self.norm = nn.BatchNorm1d(dim)

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return self.norm(super().made(x, slots))


class ZeroAtFirst(Plain):
    """A branch that mixes, and starts as nothing."""

    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, causal)
        self.branch = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.branch.weight)

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return super().made(x, slots) + self.branch(x.mean(0))


class OverTheSequence(Plain):
    """Sees idle slots, later tokens and other documents."""

    reads_context = ("documents",)

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        mean = x.new_zeros(slots.batch, x.shape[-1]).index_add(0, slots.row, x)
        return super().made(x + mean[slots.row], slots)


class Python(Plain):
    """Draws from what is not kept."""

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        scale = random.random() if self.training else 1.0
        return (super().made(x, slots) * scale).sin()


class AlwaysDrawing(Plain):
    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return super().made(x, slots) + torch.rand_like(x)


class Counting(Plain):
    """Weighs a state by how often it has been called."""

    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, causal)
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        if self.training:
            self.calls = self.calls + 1
        return super().made(x, slots) * (1 + self.calls.to(x.dtype))


class PowerIteration(Plain):
    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, causal)
        self.linear = spectral_norm(self.linear)


class Wide(Plain):
    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return super().made(x, slots).double()


class OneLoss(Plain):
    def forward(self, *given: object) -> tuple[Tensor, KeyValueCache, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        state, cache = super().forward(*given)  # pyright: ignore[reportArgumentType]
        return state, cache, state.square().sum()


class Unsaved(Plain):
    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, causal)
        self.shift = torch.randn(dim, dtype=torch.float64)

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        return super().made(x, slots) + self.shift.to(x.dtype)


class NeverCausal(Plain):
    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, False)


class IdleToo(Plain):
    """On the dense path idle slots reach the others."""

    def made(self, x: Tensor, slots: Slots) -> Tensor:
        idle = 0.0 if slots.computes is None else (~slots.computes).sum()
        return super().made(x, slots) + idle


class OtherDefinition(Block):
    def __init__(self, dim: int, causal: bool):
        super().__init__(dim, 2, causal=causal)

    def enter(self, x: Tensor, inputs: Tensor, slots: Slots) -> Tensor:
        return super().enter(2 * x, inputs, slots)


class Contract(BlockContract):
    def __init__(self, kind: type[LoopBlock]):
        self.kind = kind

    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        return self.kind(dim, causal)


BROKEN = [
    (OverTheBatch, "no_sequence_sees_another", "mixes the sequences"),
    (OverTheBatch, "a_sequence_alone_equals_itself_in_a_batch", "differs by"),
    (BatchNorm, "no_sequence_sees_another", "in training mode"),
    (ZeroAtFirst, "no_sequence_sees_another", "mixes the sequences"),
    (OverTheSequence, "a_causal_block_looks_not_ahead", "looks ahead"),
    (OverTheSequence, "documents_see_themselves_alone", "a document sees another"),
    (Python, "gradients_are_the_same_computed_again", "differs by"),
    (PowerIteration, "gradients_are_the_same_computed_again", "gradient of"),
    (Counting, "gradients_are_the_same_computed_again", "gradient of"),
    (AlwaysDrawing, "evaluation_draws_nothing", "draws in evaluation"),
    (Wide, "a_step_keeps_shape_and_dtype", "float64 for torch.float32"),
    (OneLoss, "a_step_keeps_shape_and_dtype", "auxiliary loss has shape"),
    (Unsaved, "the_state_dict_holds_all_of_it", "after loading"),
    (NeverCausal, "a_causal_block_looks_not_ahead", "`causal` is False"),
    (IdleToo, "packed_equals_dense", "differs by"),
    (OtherDefinition, "its_naive_form_is_the_same", "differs by"),
]


@pytest.mark.parametrize(("kind", "test", "words"), BROKEN)
def test_what_is_broken_is_named(kind: type[LoopBlock], test: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        getattr(Contract(kind), f"test_{test}")()


def test_what_is_not_broken_passes() -> None:
    for name in {test for _, test, _ in BROKEN} - {"its_naive_form_is_the_same"}:
        if name == "documents_see_themselves_alone":
            continue
        getattr(Contract(Plain), f"test_{name}")()


@pytest.mark.parametrize("scheme", [Checkpointed()], ids=str)
def test_recomputing_with_another_random_state_is_noticed(
    monkeypatch: pytest.MonkeyPatch, scheme: Backprop
) -> None:
    """What was shipped once: gradients of other masks than those that were drawn."""
    right = act.loop.backprop.checkpoint
    monkeypatch.setattr(
        act.loop.backprop,
        "checkpoint",
        lambda *given, **named: right(*given, **{**named, "preserve_rng_state": False}),
    )
    for test in ("gradients_are_the_same_computed_again", "gradients_are_those_of_a_plain_loop"):
        given = (scheme,) if "plain" in test else ()
        with pytest.raises(AssertionError, match="gradient of"):
            getattr(Contract(Plain), f"test_{test}")(*given)
