"""What figures are measured on: a batch, the width of the model, and where its numbers are."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from act.blocks.block import AttentionLayout, Block
from benchmarks.compute.halting_times import geometric_steps

STEPS = 8


@dataclass(frozen=True)
class Shape:
    """A batch and the width of the model.

    Args:
        dim: D.
        batch: B.
        length: L.
        heads: attention heads.
        device, dtype: where, and of what width, the block's numbers are; halting arithmetic is
            float32 everywhere.
        attention: how packed queries attend.
        compiled: with what works on each token alone compiled.
    """

    dim: int
    batch: int
    length: int
    heads: int
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    attention: AttentionLayout = "padded"
    compiled: bool = False

    def block(self) -> Block:
        """A block as recipes have it: SwiGLU, RMSNorm, rotary positions, input injection."""
        torch.manual_seed(0)
        block = Block(self.dim, self.heads, injection="concat", attention=self.attention)
        if self.compiled:
            torch._dynamo.reset()  # what other widths were compiled for counts against a limit
            block.compile_parts()
        return block.to(self.device, self.dtype)

    def plain_block(self) -> Block:
        """The layer that other libraries have: GELU, LayerNorm, no injection, no rotary
        positions."""
        torch.manual_seed(0)
        block = Block(self.dim, self.heads, rotary=False, feed_forward="gelu", norm_kind="layer")
        return block.to(self.device, self.dtype)

    def input(self) -> Tensor:
        x = torch.randn(
            self.batch, self.length, self.dim, generator=torch.Generator().manual_seed(1)
        )
        return x.to(self.device, self.dtype)

    def steps(self, mean: float) -> Tensor:
        """[B L] when each token leaves."""
        return geometric_steps(self.batch, self.length, mean, STEPS).to(self.device)


WIDE = Shape(512, 8, 128, 8)
NARROW = Shape(128, 32, 64, 4)
DEMO = Shape(64, 64, 16, 4)

LONG = Shape(512, 4, 128, 8)
"""For 64 steps."""


def on_gpu(shape: Shape) -> Shape:
    """The same in bfloat16 on a GPU."""
    return replace(shape, device="cuda", dtype=torch.bfloat16)


BROAD = on_gpu(Shape(1024, 8, 512, 16))
