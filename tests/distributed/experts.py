"""A stand-in for an expert-parallel layer: at every loop step the ranks exchange tokens, each
computes one expert."""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_to_all_single

from act.blocks.block import Block
from act.caches.cache import KeyValueCache
from act.context import NO_CONTEXT, LoopContext
from act.slots import Slots
from training.distributed import collectives


class ExpertBlock(Block):
    """A Transformer layer, and one of several experts for each token, chosen by its position.

    Where `exchanges`, the number of ranks is that of experts, and each computes its own for the
    tokens of all; alone, a process computes them all.
    """

    def __init__(self, dim: int, num_experts: int, *, exchanges: bool, collective: bool):
        super().__init__(dim, 2, injection="add")
        self.experts = nn.Parameter(torch.randn(num_experts, dim, dim) * dim**-0.5)
        self.exchanges, self.collective = exchanges, collective

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        x, cache = super().forward(entering, slots, cache, context)
        expert = slots.position % len(self.experts)
        if not self.exchanges:
            return x + torch.einsum("ad,ade->ae", x, self.experts[expert]).tanh(), cache
        order = expert.argsort(stable=True)
        sent = expert.bincount(minlength=len(self.experts))
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        there = exchange(x.index_select(0, order), sent.tolist(), received.tolist())
        made = (there @ self.experts[collectives.rank()]).tanh()
        back = exchange(made, received.tolist(), sent.tolist())
        return x + torch.zeros_like(x).index_copy(0, order, back), cache


def exchange(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Sends so many rows to each rank and gives those that came, with gradient."""
    return all_to_all_single(rows.new_empty(sum(received), rows.shape[1]), rows, received, sent)
