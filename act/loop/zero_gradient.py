"""Law 6's zero gradient: every rank's backward reaches the same parameters, whatever halted."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class _TieZeroGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, *anchors: Tensor) -> Tensor:
        ctx.anchors = [(anchor.shape, anchor.dtype, anchor.device) for anchor in anchors]
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        zeros = (
            torch.zeros((), dtype=dtype, device=device).expand(shape)
            for shape, dtype, device in ctx.anchors
        )
        return gradient, *zeros


def attach_zero_gradient(tensor: Tensor, anchors: Iterable[Tensor]) -> Tensor:
    """The same tensor, whose backward also hands a zero gradient to every anchor that wants one.

    A parameter that some rank's graph does not reach crashes ZeRO-1, 2 and 3 (a gate gets no
    gradient when all tokens leave at step 1). The zeros are written, not multiplied, so infinities
    elsewhere cannot turn them into NaN.
    """
    wanted = [anchor for anchor in anchors if anchor.requires_grad]
    if not (torch.is_grad_enabled() and wanted and tensor.is_floating_point()):
        return tensor
    return _TieZeroGradient.apply(tensor, *wanted)  # pyright: ignore[reportReturnType]
