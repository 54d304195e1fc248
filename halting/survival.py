"""Exit distributions made of hazards, p_n = λ_n·Π_{m<n}(1 − λ_m): what their rules and costs
share."""

import torch
from jaxtyping import Float
from torch import Tensor

from halting.errors import UsageError
from halting.trace import LoopTrace


def checked_quantile(q: float) -> float:
    """q itself, the share of the exit distribution that has to be behind a token before it leaves.

    Raises:
        UsageError: for q outside of (0, 1].
    """
    if not 0.0 < q <= 1.0:
        raise UsageError(
            f"q is {q}.",
            "It is a probability: a token leaves at the first step by which it would have stopped "
            "with chance q.",
            "Use one in (0, 1], such as 0.5; a larger one thinks longer, and 1 runs to the step "
            "limit.",
        )
    return float(q)


class Quantile:
    """An attribute that holds a `checked_quantile`: it may be changed at any time, and never to
    what cannot be."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"_{name}"

    def __get__(self, holder: object, owner: type | None = None) -> float:
        return getattr(holder, self.name)

    def __set__(self, holder: object, value: float) -> None:
        setattr(holder, self.name, checked_quantile(value))


def quantile_step(trace: LoopTrace, q: float) -> Float[Tensor, "B L"]:
    """The first step n with Σ_{m≤n} p_m ≥ q, the q-quantile of the exit distribution in steps; 0 on
    padding."""
    before = (trace.mass.cumsum(-1) < q) & trace.ran
    return torch.minimum(before.sum(-1) + 1, trace.steps).to(trace.mass.dtype)


def negative_entropy(mass: Float[Tensor, "B L N"]) -> Float[Tensor, "B L"]:
    """Σ p_n·log p_n in nats, with 0·log 0 = 0; value and gradient are finite also where no mass
    is."""
    return (mass * torch.where(mass > 0, mass, 1.0).log()).sum(-1)
