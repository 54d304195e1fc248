"""A block's auxiliary loss, handed on through the trace."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from act import Checkpointed, KeyValueCache, LoopBlock, LoopContext, Recurrence, Slots, Truncated
from act.loop.backprop import Backprop
from act.testing import assert_close
from halting import GravesACT, UsageError

DIM, LIMIT = 3, 6
VALID = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)


class Halving(LoopBlock):
    """Scales the state by `factor`; its loss is `weight` times the state's sum of squares.

    So the loss of a token's n-th step is weight · factor^(2(n−1)) · |x|²."""

    aux_weight = 0.25

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.weight = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(
        self, entering: Tensor, slots: Slots, cache: KeyValueCache, context: LoopContext
    ) -> tuple[Tensor, KeyValueCache, Tensor]:
        loss = self.weight * entering.square().sum(-1)
        if slots.computes is not None:  # nobody may notice what is said of idle slots
            loss = torch.where(slots.computes, loss, torch.nan)
        return entering * self.factor, cache, loss


def loop_of(**options: Any) -> Recurrence:
    torch.manual_seed(1)
    rule = GravesACT(DIM, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    return Recurrence(Halving(), rule, max_steps=LIMIT, **options).double()


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, 4, DIM, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "padded"])
@pytest.mark.parametrize("backprop", [Backprop(), Checkpointed()], ids=str)
@pytest.mark.parametrize("path", ["packed", "dense"])
def test_it_is_the_closed_form(path: str, backprop: Backprop, valid: Tensor | None) -> None:
    """Value and gradient: also where each step is computed twice, it counts once."""
    loop = loop_of(path=path, backprop=backprop)
    block = loop.block
    assert isinstance(block, Halving)
    x = inputs()
    _, trace = loop(x, valid)
    assert trace.block_loss is not None and len(trace.steps[trace.valid].unique()) > 1
    assert trace.block_loss.shape == trace.mass.shape
    power = 2 * torch.arange(trace.num_steps)
    closed = 0.25 * block.weight * block.factor**power * x.square().sum(-1, keepdim=True)
    closed = torch.where(trace.ran, closed, 0.0)
    assert_close(trace.block_loss, closed, "loss")
    assert (trace.block_loss[~trace.ran] == 0).all()
    wanted = [x, block.factor, block.weight]
    mine = torch.autograd.grad(trace.block_loss.sum(), wanted)
    theirs = torch.autograd.grad(closed.sum(), wanted)
    for name, one, other in zip(("x", "factor", "weight"), mine, theirs, strict=True):
        assert_close(one, other, f"gradient of {name}")


def test_truncated_backprop_cuts_it_too() -> None:
    """With a cut before every step only the first one's loss reaches the input."""
    loop = loop_of(backprop=Truncated(1))
    x = inputs()
    _, trace = loop(x)
    assert trace.block_loss is not None and trace.num_steps > 2
    (found,) = torch.autograd.grad(trace.block_loss.sum(), x)
    assert_close(found, 0.25 * 3.0 * 2 * x, "gradient")


def test_law_6_holds_of_it() -> None:
    loop = loop_of()
    x = inputs()
    for valid in (None, torch.zeros(3, 4, dtype=torch.bool)):
        _, trace = loop(x, valid)
        assert trace.block_loss is not None
        for gradient in torch.autograd.grad(trace.block_loss.sum(), [x, *loop.parameters()]):
            assert gradient.isfinite().all()


def test_it_is_wide_also_where_the_states_are_narrow() -> None:
    loop = loop_of().to(torch.bfloat16)
    _, trace = loop(inputs().detach().to(torch.bfloat16))
    assert trace.block_loss is not None and trace.block_loss.dtype == torch.float32


class Wrong(Halving):
    """Hands on something else: `kind` says what."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(
        self, entering: Tensor, slots: Slots, cache: KeyValueCache, context: LoopContext
    ) -> tuple[Tensor, KeyValueCache] | tuple[Tensor, KeyValueCache, Tensor]:
        made, cache, loss = super().forward(entering, slots, cache, context)
        if self.kind == "one number":
            return made, cache, loss.mean()
        return (made, cache, loss) if int(slots.step[0]) == 1 else (made, cache)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("one number", r"auxiliary loss of shape \(\), for 12 slots"),
        ("the first step's only", "at some steps only"),
    ],
)
def test_what_is_refused(kind: str, message: str) -> None:
    loop = loop_of()
    loop.block = Wrong(kind)
    with pytest.raises(UsageError, match=message):
        loop(inputs())


def test_a_block_without_one_has_none() -> None:
    loop = loop_of()
    loop.block.forward = lambda entering, slots, cache, context: (0.5 * entering, cache)
    assert loop(inputs())[1].block_loss is None
