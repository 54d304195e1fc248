"""Anybody's [B L D] module as a looped block: the dense path, and frozen states for those who
left."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import act
import halting
from act import PlainBlock, Recurrence, Truncated
from act.testing import assert_close
from halting import FinalState, GravesACT, UsageError, WeightedMean

BATCH, LENGTH, DIM, LIMIT = 3, 4, 8, 5
VALID = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)


class Mixer(nn.Module):
    """Mixes positions, with a mask for those that hold nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * DIM, DIM)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        there = torch.ones_like(x[..., :1]) if padding is None else (~padding).to(x).unsqueeze(-1)
        mean = (x * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
        return x + torch.tanh(self.linear(torch.cat((x, mean.expand_as(x)), dim=-1)))


def loop_of(module: nn.Module, **options: bool | str) -> Recurrence:
    rule = GravesACT(DIM, bias_init=-0.5)
    nn.init.normal_(rule.gate.weight)
    return Recurrence(PlainBlock(module, **options), rule, max_steps=LIMIT).double()  # pyright: ignore[reportArgumentType]


def by_hand(loop: Recurrence, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Every position computed at every step; who left, and padding, is put back before the next."""
    assert isinstance(loop.block, PlainBlock) and isinstance(loop.rule, GravesACT)
    valid = torch.ones(BATCH, LENGTH, dtype=torch.bool) if valid is None else valid
    state = torch.where(valid.unsqueeze(-1), x, 0.0)
    active, held = valid, valid.to(x)
    output, steps = torch.zeros_like(x), torch.zeros_like(valid, dtype=torch.int64)
    for step in range(1, LIMIT + 1):
        made = loop.block.module(state, ~valid)
        state = torch.where(active.unsqueeze(-1), made, state)
        hazard = loop.rule.gate(state.flatten(0, 1)).sigmoid().view(BATCH, LENGTH)
        leaves = active & ((held - hazard <= loop.rule.epsilon) | (step == LIMIT))
        spent = torch.where(leaves, held, torch.where(active, hazard, 0.0))
        output, held, steps = output + spent.unsqueeze(-1) * state, held - spent, steps + active
        active = active & ~leaves
    return output, steps


@pytest.mark.parametrize("valid", [None, VALID], ids=["full", "padded"])
def test_it_equals_a_plain_loop(valid: Tensor | None) -> None:
    loop = loop_of(Mixer(), padding_argument="padding")
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64, requires_grad=True)
    output, trace = loop(x, valid)
    expected, steps = by_hand(loop, x, valid)
    assert torch.equal(trace.steps, steps) and len(steps.unique()) > 2
    assert_close(output, expected, "output")
    wanted = [x, *loop.parameters()]
    mine, theirs = (torch.autograd.grad(each.square().sum(), wanted) for each in (output, expected))
    for index, (gradient, other) in enumerate(zip(mine, theirs, strict=True)):
        assert_close(gradient, other, f"gradient {index}")


def test_padding_is_zeros_and_reaches_nobody() -> None:
    loop = loop_of(Mixer(), padding_argument="padding")
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64)
    output, trace = loop(x, VALID)
    dirty, dirty_trace = loop(torch.where(VALID.unsqueeze(-1), x, torch.nan), VALID)
    assert torch.equal(output, dirty) and torch.equal(trace.mass, dirty_trace.mass)
    assert (output[~VALID] == 0).all()
    alone, _ = loop(x[1:2, :2])
    assert_close(alone, output[1:2, :2], "a sequence alone")


def test_the_frozen_state_is_what_others_see() -> None:
    """The token that left at step 1 is seen unchanged by the other one at every later step."""
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return x + 1

    rule = GravesACT(2, bias_init=0.0)
    with torch.no_grad():
        rule.gate.weight.copy_(torch.tensor([[100.0, 0.0]]))
    x = torch.tensor([[[10.0, 0.0], [-50.0, 0.0]]])
    block = PlainBlock(Watch())
    block.batch_independent = True  # nobody else is to call it
    _, trace = Recurrence(block, rule, max_steps=4)(x)
    assert trace.steps.tolist() == [[1, 4]]
    assert [step[0, 0, 0].item() for step in seen] == [10.0, 11.0, 11.0, 11.0]
    assert [step[0, 1, 0].item() for step in seen] == [-50.0, -49.0, -48.0, -47.0]


def test_truncated_backprop_cuts_frozen_states_too() -> None:
    loop = loop_of(Mixer())
    x = torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64, requires_grad=True)
    loop.backprop, loop.readout = Truncated(1), FinalState()
    output, trace = loop(x)
    late = trace.steps > 1
    assert late.any() and not late.all()
    (gradient,) = torch.autograd.grad(output[late].sum(), x)
    assert (gradient == 0).all()


def test_a_module_may_answer_in_another_dtype() -> None:
    """As every linear layer does under autocast; frozen states keep that of the input."""

    class Narrow(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.to(self.weight.dtype)).bfloat16()

    rule = GravesACT(DIM, bias_init=0.0)
    nn.init.normal_(rule.gate.weight, std=4.0)
    for readout in (WeightedMean(), FinalState()):
        loop = Recurrence(PlainBlock(Narrow(DIM, DIM)), rule, readout, max_steps=LIMIT)
        output, trace = loop(torch.randn(BATCH, LENGTH, DIM, requires_grad=True))
        assert (
            len(trace.steps.unique()) > 1
            and output.isfinite().all()
            and trace.mass.dtype == torch.float32
        )


def test_padding_without_a_mask_is_refused() -> None:
    with pytest.raises(UsageError, match=r"PlainBlock.*padding.*padding_argument"):
        loop_of(Mixer())(torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64), VALID)
    loop_of(nn.Linear(DIM, DIM), positionwise=True)(
        torch.randn(BATCH, LENGTH, DIM, dtype=torch.float64), VALID
    )


def test_the_packed_path_is_refused() -> None:
    with pytest.raises(UsageError, match="packed"):
        Recurrence(PlainBlock(nn.Identity()), GravesACT(DIM), max_steps=2, path="packed")


class PositionWise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(x))


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(DIM, 2, 16, dropout=0.0, batch_first=True)


@pytest.mark.parametrize(
    ("block", "options", "valid"),
    [
        (encoder_layer, {}, torch.ones(3, 4, dtype=torch.bool)),
        (encoder_layer, {"padding_argument": "src_key_padding_mask"}, VALID),
        (PositionWise, {"positionwise": True}, VALID),
    ],
    ids=["no padding", "padding and a mask", "position-wise"],
)
def test_three_lines_around_a_block(
    block: Callable[[], nn.Module], options: dict, valid: Tensor
) -> None:
    x, dim = torch.randn(3, 4, DIM, requires_grad=True), DIM
    loop = act.Recurrence(
        act.PlainBlock(block(), **options),
        halting.GravesACT(dim),
        halting.WeightedMean(),
        max_steps=10,
    )
    output, trace = loop(x, valid)
    cost = halting.StepsPlusRemainder()(trace)

    assert output.shape == x.shape and cost.shape == valid.shape
    assert (output[~valid] == 0).all() and (cost[~valid] == 0).all() and (cost[valid] > 1).all()
    loss = output.square().sum() + 1e-2 * (cost * valid).sum() / valid.sum()
    loss.backward()
    for name, parameter in loop.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert (loop.rule.gate.weight.grad != 0).any()  # pyright: ignore[reportAttributeAccessIssue]
    dirty = torch.where(valid.unsqueeze(-1), x.detach(), 7.0)
    assert torch.equal(loop(dirty, valid)[0], output)
    with torch.no_grad():
        assert torch.allclose(loop.eval()(x, valid)[0], output, atol=1e-5)
