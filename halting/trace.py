"""What the loop did: mass, score and steps of every token, from which costs and ponder maps are
made."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class PackedSteps(NamedTuple):
    """One value for each executed token-step, packed: M = the sum of all executed steps.

    Args:
        values: [M D] the values, steps in order, tokens in order within a step.
        index: [M] int64, the token's flat place in the [B L] batch.
        step: [M] int64, the step, counted from 0.
    """

    values: Tensor
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]  tuple.index, which nobody wants here
    step: Tensor

    def unpack(
        self, values: Tensor, batch: int, length: int, num_steps: int, fill: float | int = 0
    ) -> Tensor:
        """Values [M ...], in the order of this record, laid out as [B L N ...] with `fill` where
        nothing ran."""
        flat = values.new_full((batch * length * num_steps, *values.shape[1:]), fill)
        flat = flat.index_copy(0, self.index * num_steps + self.step, values)
        return flat.view(batch, length, num_steps, *values.shape[1:])


class LoopTrace(NamedTuple):
    """The record of one run of the loop over [B L] tokens and N steps (a named tuple, because
    DeepSpeed's hooks see into tuples but not into dataclasses).

    Args:
        mass: [B L N] float32 or wider, the exit mass spent at each step; sums to 1 over N for valid
            tokens, 0 on padding.
        score: [B L N], the rule's raw number at each executed step, 0 where the token was not
            computed.
        steps: [B L] int64, executed steps: block applications that the token really got; 0 on
            padding.
        valid: [B L] bool.
        aux: {name: [B L N ...]}, what the rule's own cost or readout asked to keep; 0 where not
            computed.
        states: every executed step's state, packed, where the readout keeps them; else None.
        lens: for every executed step the readout had it stopped there, packed, where asked for;
            else None.
        block_loss: [B L N], what the block adds to the training loss at each step, in the unit of
            that loss and with gradient: its auxiliary loss times its `aux_weight`; 0 where the
            token was not computed, and None for a block that has none.
    """

    mass: Float[Tensor, "B L N"]
    score: Float[Tensor, "B L N"]
    steps: Int[Tensor, "B L"]
    valid: Bool[Tensor, "B L"]
    aux: dict[str, Tensor]
    states: PackedSteps | None = None
    lens: PackedSteps | None = None
    block_loss: Float[Tensor, "B L N"] | None = None

    @property
    def num_steps(self) -> int:
        """N, the number of steps that the longest-thinking token took."""
        return self.mass.shape[-1]

    @property
    def ran(self) -> Bool[Tensor, "B L N"]:
        """[B L N]: whether the token was computed at that step."""
        return torch.arange(self.num_steps, device=self.steps.device) < self.steps.unsqueeze(-1)

    @property
    def remainder(self) -> Float[Tensor, "B L"]:
        """[B L]: the mass spent at the token's last step (Graves 2016, section 2: R), with
        gradient; 0 on padding."""
        if self.num_steps == 0:
            return self.mass.sum(-1)
        last = (self.steps - 1).clamp(min=0).unsqueeze(-1)
        return self.mass.gather(-1, last).squeeze(-1)

    @property
    def expected_steps(self) -> Float[Tensor, "B L"]:
        """[B L]: Σ n·p_n, the mean of the exit distribution in steps; 0 on padding. Carries
        gradient."""
        numbers = torch.arange(
            1, self.num_steps + 1, device=self.mass.device, dtype=self.mass.dtype
        )
        return (self.mass * numbers).sum(-1)
