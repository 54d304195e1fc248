"""A recurrent cell as the looped block: each token thinks by itself."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from act.blocks import naive
from act.blocks.block import BlockStep, LoopBlock
from act.blocks.naive import NaiveToken
from act.caches.cache import KeyValueCache
from act.context import NO_CONTEXT, LoopContext
from act.layers.flops import module_flops
from act.layers.saved_numbers import SavedNumbers
from act.slots import Slots


class GRUBlock(LoopBlock):
    """One GRU cell: s_{n+1} = GRU(input = x, hidden = s_n), the same loop input x at every step
    (the cell of Graves' and PonderNet's parity experiments; Cho et al. 2014, with the reset gate
    inside the candidate, as in cuDNN).

    Tokens do not see each other, so any set of slots can be computed, and no keys are kept. The
    loop starts from s_0 = x, where the papers start from zero. What a rule sees as `entering` is
    s_n.

    Args:
        dim: D, of x and s.
        causal: refuse rules that look at later tokens; the cell itself looks at none.
    """

    reads_context = ("documents",)  # tokens do not see each other, so not those of other documents
    batch_independent = True

    def __init__(self, dim: int, causal: bool = False):
        super().__init__()
        self.dim = dim
        self.causal = causal
        self.cell = nn.GRUCell(dim, dim)

    def step(
        self,
        state: Float[Tensor, "A D"],
        inputs: Float[Tensor, "A D"],
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> BlockStep:
        state = slots.blank_idle(state)
        inputs = slots.blank_idle(inputs)
        # Under autocast the cell answers in the narrow dtype; the stream of states keeps its own.
        return BlockStep(state, self.cell(inputs, state).to(state.dtype), cache)

    def flops(self, length: int) -> int:
        return module_flops(self, length)

    def saved_numbers(self) -> SavedNumbers:
        """The three gates, and what they multiply."""
        return SavedNumbers(wide=3 * self.dim, narrow=3 * self.dim)

    def naive_step(
        self, tokens: Sequence[NaiveToken], active: Sequence[NaiveToken], step: int
    ) -> list[Tensor]:
        for token in active:
            token.entering = token.state
        return [naive.gru_step(self.cell, token.state, token.inputs) for token in active]
