"""Rules that let nobody go in training and say beside whom they would: the depth that they mean."""

import torch
from jaxtyping import Float
from torch import Tensor

from halting.trace import LoopTrace


def would_leave_step(trace: LoopTrace) -> Float[Tensor, "B L"]:
    """The first step whose aux "would_leave" is set, else the last executed one, in steps; 0 on
    padding."""
    stays = trace.ran & ~trace.aux["would_leave"]
    before_first = stays.to(torch.int64).cumprod(-1).sum(-1)
    return torch.minimum(before_first + 1, trace.steps).to(trace.mass.dtype)
