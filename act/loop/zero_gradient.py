"""Law 6's zero gradient: every rank's backward reaches the same parameters, whatever halted."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from act.loop.transforms import transforming
from halting.trace import LoopTrace, PackedSteps


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
    elsewhere cannot turn them into NaN. Transforms of torch.func give zeros by themselves.
    """
    wanted = [anchor for anchor in anchors if anchor.requires_grad]
    if not (torch.is_grad_enabled() and wanted and tensor.is_floating_point()) or transforming():
        return tensor
    return _TieZeroGradient.apply(tensor, *wanted)  # pyright: ignore[reportReturnType]


def attach_zero_gradients(
    output: Float[Tensor, "B L D"], trace: LoopTrace, anchors: Sequence[Tensor]
) -> tuple[Float[Tensor, "B L D"], LoopTrace]:
    """The output and the trace of a run, with a zero gradient from each differentiable tensor among
    them to every anchor: the loop's parameters, and what it was called with."""

    def attached(tensor: Tensor) -> Tensor:
        return attach_zero_gradient(tensor, anchors)

    def packed(steps: PackedSteps | None) -> PackedSteps | None:
        return None if steps is None else steps._replace(values=attached(steps.values))

    return attached(output), trace._replace(
        mass=attached(trace.mass),
        score=attached(trace.score),
        aux={name: attached(value) for name, value in trace.aux.items()},
        states=packed(trace.states),
        lens=packed(trace.lens),
        block_loss=None if trace.block_loss is None else attached(trace.block_loss),
    )
