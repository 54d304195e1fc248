"""The contract of a block, for every block that is here and for modules of torch.nn."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from act import Block, KeyValueCache, LoopBlock, LoopContext, PlainBlock, Slots
from act.blocks.gru import GRUBlock
from act.context import NO_CONTEXT
from act.testing import BlockContract
from training.config.parts import resolve

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


class TestBlock(BlockContract):
    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        return Block(
            dim,
            2,
            num_kv_heads=1,
            num_layers=2,
            causal=causal,
            injection="concat",
            step_signal="sinusoidal",
        )


class TestGRUBlock(BlockContract):
    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        return GRUBlock(dim, causal=causal)


class TestExampleBlock(BlockContract):
    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        cls: Any = resolve(f"{EXAMPLES / 'my_block.py'}:MyBlock", nn.Module)
        return cls(dim, num_heads=2, causal=causal)


class TestTransformerEncoderLayer(BlockContract):
    """With torch's default dropout of 0.1, and a mask for padding."""

    causal = (False,)

    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        return PlainBlock(nn.TransformerEncoderLayer(dim, 2, 16, batch_first=True))


class TestPositionwise(BlockContract):
    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        module = nn.Sequential(nn.Linear(dim, 16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, dim))
        return PlainBlock(module, causal=causal, positionwise=True)


class Neighbours(nn.Module):
    """Looks to the left, and knows nothing of padding."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(x + x.roll(1, 1).index_fill(1, torch.tensor([0]), 0)))


class TestWithoutMask(BlockContract):
    takes_padding = False

    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        return PlainBlock(Neighbours(dim), causal=causal)


class DroppedExpert(LoopBlock):
    """Any set of slots, draws, has an auxiliary loss, and reads a context."""

    reads_context = ("noise_level",)
    aux_weight = 0.5

    def __init__(self, dim: int, causal: bool):
        super().__init__()
        self.causal = causal
        self.linear = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(0.3)

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache, Tensor]:
        assert context.noise_level is not None
        noise = slots.take_rows(context.noise_level).unsqueeze(-1)
        made = self.dropout(torch.tanh(self.linear(slots.blank_idle(entering)) * noise))
        return made.to(entering.dtype), cache, made.square().sum(-1)


class TestDroppedExpert(BlockContract):
    def make_block(self, dim: int, causal: bool) -> LoopBlock:
        return DroppedExpert(dim, causal)

    def make_context(self) -> LoopContext:
        return LoopContext(noise_level=torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
