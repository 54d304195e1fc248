"""What the loop is measured against: the same block applied again and again without anything around
it, the bare matrix products of its shapes, and looped layers of other libraries."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from act.blocks.block import Block
from act.caches.cache import FunctionalCache
from act.slots import Slots
from benchmarks.compute.shape import Shape


def dense_loop(block: Block, x: Tensor, steps: int) -> Tensor:
    """The block on every token, `steps` times: no rule, no ledger, no readout."""
    slots = Slots.everywhere(x)
    state = inputs = x.flatten(0, 1)
    for _ in range(steps):
        state, _ = block(block.enter(state, inputs, slots), slots, FunctionalCache(None))
        slots = slots.next_step()
    return state


def matrix_products(shape: Shape) -> Callable[[], None]:
    """The products of one training step of a GELU layer: forward, and for each the two of its
    backward pass; and those of attention, of which the backward pass of a kernel that keeps no L ×
    L matrix has one more."""
    dim = shape.dim
    hidden = 4 * shape.dim
    heads = shape.batch * shape.heads
    tokens = shape.batch * shape.length
    kind: Any = {"device": shape.device, "dtype": shape.dtype}
    maps = [(dim, 3 * dim), (dim, dim), (dim, hidden), (hidden, dim)]
    linears = [
        tuple(torch.randn(*size, **kind) for size in ((tokens, a), (a, b), (tokens, b)))
        for a, b in maps
    ]
    queries, keys = (torch.randn(heads, shape.length, dim // shape.heads, **kind) for _ in range(2))
    weights = torch.randn(heads, shape.length, shape.length, **kind)

    def run() -> None:
        for given, weight, gradient in linears:
            torch.mm(given, weight)
            torch.mm(gradient, weight.T)
            torch.mm(given.T, gradient)
        for _ in range(3):  # q·k and again in backward; dOut·v
            torch.bmm(queries, keys.mT)
        for _ in range(2):  # p·v; dS·k
            torch.bmm(weights, keys)
        for _ in range(2):  # dv, dk
            torch.bmm(weights.mT, queries)

    return run


def looped_layer(layer: nn.Module, x: Tensor, steps: int) -> Tensor:
    """A module from [B L D] to [B L D], again and again."""
    for _ in range(steps):
        x = layer(x)
    return x


def encoder_layer(shape: Shape) -> nn.Module:
    """PyTorch's own layer, pre-norm, exact GELU, no dropout."""
    return nn.TransformerEncoderLayer(
        shape.dim,
        shape.heads,
        4 * shape.dim,
        dropout=0.0,
        activation=F.gelu,
        batch_first=True,
        norm_first=True,
    ).to(shape.device, shape.dtype)


def albert(shape: Shape, steps: int) -> nn.Module | None:
    """Hugging Face's Albert encoder, one layer `steps` times, with the exact GELU; None where it is
    not installed."""
    try:
        from transformers.models.albert.configuration_albert import AlbertConfig  # pyright: ignore[reportMissingImports]
        from transformers.models.albert.modeling_albert import AlbertTransformer  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    config = AlbertConfig(
        embedding_size=shape.dim,
        hidden_size=shape.dim,
        num_hidden_layers=steps,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.dim,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return _Albert(AlbertTransformer(config), steps).to(shape.device, shape.dtype)


class _Albert(nn.Module):
    def __init__(self, encoder: nn.Module, steps: int):
        super().__init__()
        self.encoder = encoder
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, attention_mask=None, head_mask=[None] * self.steps)[0]
