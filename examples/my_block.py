"""A looped block of your own in one file: attention whose result is let in by a learned gate.

ponder train pointer_chase --model.block examples/my_block.py:MyBlock
ponder train pointer_chase --model.block examples/my_block.py:MyBlock --model.openness 1
"""

import torch
from torch import Tensor, nn

from act import KeyValueCache, LoopBlock, Slots
from act.context import NO_CONTEXT, LoopContext
from act.layers.attention import Attention, AttentionContext


class MyBlock(LoopBlock):
    """s + σ(W·s + b) ⊙ attention(norm(s + x)), then a gated feed-forward network: x, what the loop
    started from, is seen again at every step.

    It computes any set of tokens, so the loop hands it the active ones alone (the packed path).

    Args:
        dim: D; the run hands it over, as it does `causal`.
        num_heads: attention heads.
        openness: b at the start; higher lets more in.
    """

    def __init__(self, dim: int, num_heads: int = 4, openness: float = 0.0, causal: bool = False):
        super().__init__()
        self.causal = causal
        self.before = nn.RMSNorm(dim)
        self.attention = Attention(dim, num_heads, num_heads)
        self.gate = nn.Linear(dim, dim)
        nn.init.constant_(self.gate.bias, openness)
        self.feed_forward = nn.Sequential(nn.RMSNorm(dim), nn.Linear(dim, 2 * dim), nn.GLU())

    def enter(self, x: Tensor, inputs: Tensor, slots: Slots) -> Tensor:
        return slots.blank_idle(x + inputs)

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        seen = AttentionContext.of(entering, slots, cache.visible, self.causal, None, 0.0)
        queries, keys, values = self.attention.project(self.before(entering), None)  # [A H Dh]
        attended, cache = cache.attend(0, queries, keys, values, slots, seen)
        gate = torch.sigmoid(self.gate(entering))  # [A D]
        x = entering + gate * self.attention.merge(attended)
        return (x + self.feed_forward(x)).to(entering.dtype), cache
