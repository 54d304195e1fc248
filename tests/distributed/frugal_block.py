"""A block with an auxiliary loss: it pays for what its gates let in."""

import torch
from torch import Tensor, nn

from act import Block, KeyValueCache, LoopBlock, Slots
from act.context import NO_CONTEXT, LoopContext


class FrugalBlock(LoopBlock):
    """A `Block` whose change of the state is let in by gates; the auxiliary loss is their mean.

    Args:
        dim, num_heads, causal: as the block's.
        price: what a unit of the auxiliary loss weighs.
    """

    def __init__(self, dim: int, num_heads: int = 4, price: float = 0.1, causal: bool = False):
        super().__init__()
        self.causal = causal
        self.inner = Block(dim, num_heads, causal=causal)
        self.aux_weight = price
        self.gate = nn.Linear(dim, dim)

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache, Tensor]:
        state, cache = self.inner(entering, slots, cache, context)
        gates = torch.sigmoid(self.gate(entering))  # [A D]
        return entering + gates * (state - entering), cache, gates.mean(-1)
