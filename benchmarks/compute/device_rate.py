"""How much of what a device can do is done: FLOPs of a dense pass against the rate of one large
matrix product."""

from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from act.accounting.counted import flops_by_torch
from benchmarks.compute.bare import dense_loop
from benchmarks.compute.packing import step_of
from benchmarks.compute.shape import STEPS, Shape
from benchmarks.compute.timing import in_turns

LARGE = 8192


def dense_share_of_rate(
    shape: Shape, training: bool, repeats: int, large: int = LARGE
) -> list[float]:
    """FLOPs a second of the bare block, all tokens at every step, over those of a `large`³ product
    in the same dtype, of each turn. Recomputation inside attention's backward kernels is not
    counted as work."""
    block = shape.block()
    x = shape.input()
    dense = step_of(block, lambda: dense_loop(block, x, STEPS), training)
    one, other = (
        torch.randn(large, large, device=shape.device, dtype=shape.dtype) for _ in range(2)
    )
    steps, products = in_turns((dense, lambda: one @ other), repeats)
    work = dense_flops(shape, training)
    return [
        work / step / (2 * large**3 / product)
        for step, product in zip(steps, products, strict=True)
    ]


def dense_flops(shape: Shape, training: bool) -> int:
    """FLOPs of that pass, as torch counts its matrix products."""
    eager = replace(
        shape, compiled=False
    )  # of compiled parts torch sees nothing that it could count
    block = eager.block()
    x = eager.input()
    with sdpa_kernel(SDPBackend.MATH):
        return flops_by_torch(step_of(block, lambda: dense_loop(block, x, 1), training)) * STEPS
