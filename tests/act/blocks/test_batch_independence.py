"""Blocks that let the sequences of a batch see one another are refused, and looking for that leaves
no trace."""

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from act import Block, KeyValueCache, LoopBlock, LoopContext, PlainBlock, Recurrence, Slots
from act.blocks.batch_independence import FirstLook, check_batch_independence, differ
from act.context import NO_CONTEXT
from halting import GravesACT, UsageError

DIM = 8


def encoder_layer(**options: bool) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(DIM, 2, 16, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (encoder_layer, r"TransformerEncoderLayer\(..., batch_first=True\)"),
        (
            lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False),
            r"TransformerEncoderLayer\(..., batch_first=True\)",
        ),
        (lambda: nn.Sequential(nn.Linear(DIM, DIM), nn.GRU(DIM, DIM)), r"GRU\(..., batch_first"),
        (lambda: nn.MultiheadAttention(DIM, 2), r"MultiheadAttention\(..., batch_first"),
    ],
)
def test_torchs_default_layout_is_refused_at_once(
    make: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(UsageError, match="batch_first=False, the default of torch.nn") as refusal:
        PlainBlock(make())
    assert refusal.value.write and words.replace("\\", "") in refusal.value.write


class Turned(nn.Module):
    """Turns batch and sequence itself, before and after."""

    calls: ClassVar[list[int]] = []

    def __init__(self, layer: nn.Module | None = None, turns: bool = True):
        super().__init__()
        self.layer = layer or encoder_layer()
        self.turns = turns
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        Turned.calls.append(len(x))
        return self.layer(x.transpose(0, 1)).transpose(0, 1) if self.turns else self.layer(x)


class OverTheBatch(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, 1)).view_as(input)


class Starting(nn.Module):
    """A branch that mixes, and starts as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Linear(DIM, DIM)
        nn.init.zeros_(self.branch.weight)
        nn.init.zeros_(self.branch.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x.mean(0, keepdim=True))


class OverTheSlots(LoopBlock):
    """Computes any slots, and looks at the mean of all of them."""

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        return entering - slots.blank_idle(entering).mean(0), cache


def loop_of(block: LoopBlock | nn.Module) -> Recurrence:
    block = block if isinstance(block, LoopBlock) else PlainBlock(block)
    return Recurrence(block, GravesACT(DIM), max_steps=2)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("make", "training", "words"),
    [
        (lambda: Turned(turns=False), False, "Turned mixes the sequences of a batch\\."),
        (lambda: Turned(turns=False), True, "Turned mixes the sequences of a batch in training"),
        (lambda: OverTheBatch(DIM), True, "OverTheBatch mixes .* in training mode"),
        (Starting, True, "Starting mixes"),
        (OverTheSlots, True, "OverTheSlots mixes"),
    ],
)
def test_a_block_that_mixes_is_refused_at_the_first_batch(
    make: Callable[[], nn.Module], training: bool, words: str, batch: int, autocast: bool
) -> None:
    """Whatever weights it starts with, and also where the batch is one sequence."""
    loop = loop_of(make()).train(training)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        pytest.raises(UsageError, match=words) as refusal,
    ):
        loop(torch.randn(batch, 5, DIM))
    assert refusal.value.why and "batch_first=True" in refusal.value.write


def test_what_may_be_is_not_refused() -> None:
    for module in (
        Turned(),
        Turned(encoder_layer(batch_first=True), turns=False),
        OverTheBatch(DIM).eval(),
    ):
        loop = loop_of(module).train(module.training)
        loop(torch.randn(3, 5, DIM))


def test_it_looks_once_in_each_mode_and_leaves_no_trace() -> None:
    module = Turned()
    loop = loop_of(module)
    x = torch.randn(3, 5, DIM)
    Turned.calls.clear()
    for training in (True, False):
        loop.train(training)
        torch.manual_seed(1)
        expected = torch.rand(2)
        for first in (True, False):
            before = module.seen
            Turned.calls.clear()
            torch.manual_seed(1)
            state = loop.begin(x)
            assert torch.equal(torch.rand(2), expected), "it drew what others draw"
            assert Turned.calls == ([2, 2] if first else []) and module.seen == before
            loop.finish(loop.step(state))
    assert all(parameter.grad is None for parameter in loop.parameters())


def test_running_statistics_stay() -> None:
    module = OverTheBatch(DIM).train()
    with pytest.raises(UsageError, match="in training mode"):
        loop_of(module)(torch.randn(3, 5, DIM))
    assert module.num_batches_tracked == 0 and (module.running_mean == 0).all()


def test_what_an_engine_holds_is_not_looked_at() -> None:
    module = Turned(turns=False)
    for parameter in module.parameters():
        parameter.ds_id = 0  # pyright: ignore[reportAttributeAccessIssue]
    loop_of(module)(torch.randn(3, 5, DIM))


def test_shipped_blocks_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("act.blocks.batch_independence.check_batch_independence")
    loop_of(Block(DIM, 2))(torch.randn(2, 3, DIM))
    look = FirstLook()
    look.at(PlainBlock(nn.Linear(DIM, DIM)), torch.randn(2, 3, DIM))
    assert look.seen == {True}  # a fault while looking is nobody's error


def test_differing_is_more_than_rounding() -> None:
    x = torch.randn(4)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        one = x.to(dtype)
        assert not differ(one, one * (1 + torch.finfo(dtype).eps))
        assert differ(one, one.flip(0)) and differ(one, one * torch.nan)


def test_a_context_is_handed_on() -> None:
    class Conditioned(LoopBlock):
        reads_context = ("noise_level",)

        def forward(
            self,
            entering: Tensor,
            slots: Slots,
            cache: KeyValueCache,
            context: LoopContext = NO_CONTEXT,
        ) -> tuple[Tensor, KeyValueCache]:
            assert context.noise_level is not None
            mixed = context.noise_level.mean() * entering.mean()
            return entering * slots.take_rows(context.noise_level).unsqueeze(-1) + mixed, cache

    with pytest.raises(UsageError, match="Conditioned mixes"):
        loop_of(Conditioned())(
            torch.randn(3, 5, DIM), context=LoopContext(noise_level=torch.rand(3))
        )
    with pytest.raises(AssertionError):  # its own error
        check_batch_independence(Conditioned(), 3, DIM, torch.zeros(1))
