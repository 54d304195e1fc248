"""`python -m benchmarks.compute.kernels`: what a packed training step spends its time on, kernel by
kernel, and how often the host waits for the device. Says whether anything but the block (the
ledger, the choice of slots) is worth a kernel."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from act.loop.recurrence import Recurrence
from benchmarks.compute.packing import LedAlong, step_of
from benchmarks.compute.shape import BROAD, STEPS, WIDE, Shape


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table for each way to run the step."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compute.kernels", description=__doc__
    )
    parser.add_argument("--mean", type=float, default=4.0, help="mean steps of 8")
    parser.add_argument("--rows", type=int, default=25, help="lines of each table")
    options = parser.parse_args(argv)
    shape = BROAD if torch.cuda.is_available() else WIDE
    for way in (shape, replace(shape, compiled=True, attention="ragged")):
        print(
            f"width {way.dim}, {way.dtype}, {way.device}, "
            f"{way.attention}{', compiled' * way.compiled}"
        )
        print(table(way, options.mean, options.rows))
    return 0


def table(shape: Shape, mean: float, rows: int) -> str:
    """The longest operators of one training step with all of GravesACT deciding."""
    block = shape.block()
    x = shape.input()
    on_gpu = shape.device == "cuda"
    loop = Recurrence(
        block, LedAlong(shape.dim, shape.steps(mean)).to(shape.device), max_steps=STEPS
    )
    step = step_of(loop, lambda: loop(x)[0], True)
    step()  # what is loaded and compiled at first is not counted
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as seen:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    by = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    return seen.key_averages().table(sort_by=by, row_limit=rows, max_name_column_width=60)


if __name__ == "__main__":
    sys.exit(main())
