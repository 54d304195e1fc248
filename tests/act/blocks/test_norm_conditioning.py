"""Norms that know the loop step: nothing at first, by hand, and in memory."""

import math

import pytest
import torch

from act import Block
from act.caches.cache import FunctionalCache
from act.layers.norm import SIGNAL_WIDTH, StepNorm, signal_of
from act.layers.saved_numbers import saved_by_norm
from act.slots import Slots


def test_it_is_the_plain_norm_before_it_has_learned():
    blocks = [Block(8, 2, norm_conditioning=each).double() for each in ("none", "step")]
    fresh = dict(blocks[1].named_parameters())
    for name, parameter in blocks[0].named_parameters():
        place = name.replace("_norm.", "_norm.norm.")
        fresh[place].data.copy_(parameter.data)
    x = torch.randn(5, 8, dtype=torch.float64)
    slots = Slots.of(torch.ones(1, 5, dtype=torch.bool))
    plain, conditioned = (block(x, slots, FunctionalCache(None))[0] for block in blocks)
    assert torch.equal(plain, conditioned)
    counts = [sum(each.numel() for each in block.parameters()) for block in blocks]
    assert counts[1] - counts[0] == 2 * 2 * 8 * SIGNAL_WIDTH


def test_gain_and_shift_of_a_step_by_hand():
    norm = StepNorm("rms", 2).double()
    rate = 10_000 ** (-1 / (SIGNAL_WIDTH // 2 - 1))
    norm.modulation.data[0, 1] = 2.0  # the first number's gain, by sin(rate · n)
    norm.modulation.data[3, SIGNAL_WIDTH // 2] = 3.0  # the second one's shift, by cos(n)
    slots = Slots.of(torch.ones(1, 1, dtype=torch.bool)).next_step().next_step()
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    [found] = norm(x, signal_of(slots, x.dtype)).tolist()
    mixed = Slots.of(torch.ones(1, 2, dtype=torch.bool)).at_steps(torch.tensor([7, 3]))
    assert torch.equal(norm(x.expand(2, 2), signal_of(mixed, x.dtype))[1], x.new_tensor(found))
    scale = math.sqrt(12.5 + 1e-6)
    wanted = [3 / scale * (1 + 2 * math.sin(rate * 3)), 4 / scale + 3 * math.cos(3)]
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_what_it_keeps_is_counted(kind):
    """Bytes that autograd keeps of 64 tokens, float32."""
    norm = StepNorm(kind, 48)
    x = torch.randn(64, 48, requires_grad=True)
    signal = torch.randn(1, SIGNAL_WIDTH)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() and len(tensor) == 64 and tensor.shape[-1] == 48:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made = norm(x, signal)
        (made @ torch.randn(48, 3, requires_grad=True)).sum()
    told = saved_by_norm(norm)
    assert sum(kept.values()) == 64 * (told.wide + told.narrow)
