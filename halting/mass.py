"""The ledger of exit mass: law 1, kept here so that no rule can break it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halting.step import StepDecision


def halting_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of all halting arithmetic beside states of `dtype`: float32 or wider (law 5)."""
    return torch.promote_types(torch.float32, dtype)


def settle(
    decision: StepDecision, remaining: Float[Tensor, " A"], last: bool
) -> tuple[Float[Tensor, " A"], Float[Tensor, " A"], Bool[Tensor, " A"]]:
    """What is really spent: (mass spent now, mass remaining, who leaves), each [A].

    A token that stays spends what its rule asks for, at most what it holds. A token that leaves,
    because its rule says so or because this is its last allowed step, spends all it holds: ACT's
    remainder, PonderNet's truncation and the one-hot of a hard exit are this same line. So each
    token's mass over all steps sums to one.
    """
    leaves = torch.ones_like(decision.halt) if last else decision.halt
    wanted = decision.mass.to(remaining.dtype)
    mass = torch.where(leaves | (wanted > remaining), remaining, wanted)
    return mass, remaining - mass, leaves  # who spends all is left with 0 exactly
