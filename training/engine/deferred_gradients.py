"""The gradients of the loop's parameters, all at once and in one order on every rank."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from act.loop.recurrence import Recurrence


def defer_parameter_gradients(recurrence: Recurrence) -> None:
    """Has the loop's parameters get their gradients when the backward has passed the whole loop.

    ZeRO-1 and 2 lay gradients into buckets in the order in which they come, and sum the buckets of
    the ranks. Where a rank's tokens leave before its gate is asked for anything, the gate's zeros
    would come earlier than the gradients of other ranks: those of different parameters would be
    added up, in silence. The looped block's gradients are whole at the loop's first step only, so
    nothing is kept longer than it was.
    """
    plain = recurrence.forward

    def forward(*given: Any, **named: Any) -> Any:
        parameters = {
            name: each for name, each in recurrence.named_parameters() if each.requires_grad
        }
        if not (torch.is_grad_enabled() and parameters):
            return plain(*given, **named)
        handed = dict(zip(parameters, _DeferredGradients.apply(*parameters.values()), strict=True))  # pyright: ignore[reportArgumentType]
        recurrence.forward = plain
        try:
            return functional_call(recurrence, handed, given, named)
        finally:
            recurrence.forward = forward

    recurrence.forward = forward


class _DeferredGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> tuple[Tensor, ...]:
        return tuple(parameter.view_as(parameter) for parameter in parameters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients
