"""The sequences that tokens belong to: what rules that decide for a whole sequence share."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halting.gate import Gate
from halting.mass import halting_dtype


@dataclass(frozen=True)
class Sequences:
    """S sequences of A tokens. Only tokens that are there count, so never padding.

    Args:
        rows: [S] int64, the row of each sequence.
        of: [A] int64, each token's sequence, 0 .. S − 1.
        counts: [S] int64, the tokens of each.
    """

    rows: Int[Tensor, " S"]
    of: Int[Tensor, " A"]
    counts: Int[Tensor, " S"]

    @staticmethod
    def by_row(row: Int[Tensor, " A"]) -> "Sequences":
        """Those of tokens that stand in these rows."""
        return Sequences(*torch.unique(row, return_inverse=True, return_counts=True))

    @cached_property
    def first(self) -> Int[Tensor, " S"]:
        """The first token of each sequence."""
        place = torch.arange(len(self.of), device=self.of.device)
        return place.new_full((len(self.rows),), len(self.of)).scatter_reduce(
            0, self.of, place, "amin"
        )

    def mean(self, values: Float[Tensor, "A D"]) -> Float[Tensor, "S D"]:
        """The mean over the tokens of each sequence, in float32 or wider."""
        wide = values.to(halting_dtype(values.dtype))
        total = wide.new_zeros(len(self.rows), wide.shape[-1]).index_add(0, self.of, wide)
        return total / self.counts.unsqueeze(-1).to(wide.dtype)

    def all_set(self, flags: Bool[Tensor, " A"]) -> Bool[Tensor, " A"]:
        """Whether the flag is set for every token of the token's sequence."""
        return (torch.zeros_like(self.counts).index_add(0, self.of, (~flags).long()) == 0)[self.of]

    def ask(self, gate: Gate, state: Float[Tensor, "A D"]) -> Float[Tensor, "A G"]:
        """The gate's logits for the mean state of each token's sequence. It is asked once a
        sequence, so that all its tokens are told the same to the last bit."""
        return gate(self.mean(state))[self.of]
