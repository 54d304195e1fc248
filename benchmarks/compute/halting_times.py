"""Steps at which tokens are told to leave, so that a benchmark decides how much is active."""

import torch
from jaxtyping import Int
from torch import Tensor


def geometric_steps(
    batch: int, length: int, mean: float, max_steps: int, seed: int = 0
) -> Int[Tensor, "B L"]:
    """[B L] halting times of a geometric distribution cut at the limit, with that mean: its
    quantiles, shuffled."""
    step = torch.arange(1, max_steps + 1, dtype=torch.float64)
    low = -20.0
    high = 20.0
    for _ in range(200):
        middle = (low + high) / 2
        above = bool((torch.softmax(-middle * step, 0) * step).sum() > mean)
        low, high = (middle, high) if above else (low, middle)
    quantiles = (torch.arange(batch * length, dtype=torch.float64) + 0.5) / (batch * length)
    steps = (
        torch.searchsorted(torch.softmax(-low * step, 0).cumsum(0), quantiles).clamp(
            max=max_steps - 1
        )
        + 1
    )
    order = torch.randperm(batch * length, generator=torch.Generator().manual_seed(seed))
    return steps[order].view(batch, length)
