"""Checkpointed against full backprop: the memory of a training step, in a process of its own, and
its time."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from act.loop.backprop import Backprop, Checkpointed
from act.loop.recurrence import Recurrence
from benchmarks.compute.packing import step_of
from benchmarks.compute.shape import LONG, Shape
from benchmarks.compute.timing import ratio
from benchmarks.harness.digest import ROOT
from halting.rules.fixed_steps import FixedSteps

STEPS = 64


def training_step(shape: Shape, backprop: Backprop, steps: int = STEPS) -> Callable[[], None]:
    """One at fixed depth."""
    loop = Recurrence(shape.block(), FixedSteps(), max_steps=steps, backprop=backprop)
    x = shape.input()
    return step_of(loop, lambda: loop(x)[0], True)


def time_against_full(shape: Shape, repeats: int) -> list[float]:
    """Checkpointed ÷ full, 64 steps."""
    return ratio(training_step(shape, Checkpointed()), training_step(shape, Backprop()), repeats)


def memory_against_full() -> float:
    """Peak of the process during a step of 64, less what it held after one of a single step:
    checkpointed ÷ full."""
    peaks = []
    for kind in ("checkpointed", "full"):
        command = [sys.executable, "-m", "benchmarks.compute.checkpointed", kind]
        peaks.append(
            int(
                subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            )
        )
    return peaks[0] / peaks[1]


def device_memory_against_full(shape: Shape) -> float:
    """The same of a GPU's memory, as its allocator counts it."""
    peaks = []
    for backprop in (Checkpointed(), Backprop()):
        training_step(shape, backprop, steps=1)()
        step = training_step(shape, backprop)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    return peaks[0] / peaks[1]


def _peak(kind: str) -> int:
    """KiB that a step of 64 needs beyond one of a single step, which has loaded and allocated
    everything else."""
    backprop = Checkpointed() if kind == "checkpointed" else Backprop()
    training_step(LONG, backprop, steps=1)()
    before = _most_so_far()
    training_step(LONG, backprop)()
    return _most_so_far() - before


def _most_so_far() -> int:
    """KiB of memory that this process held at its largest. The kernel's own mark where it tells:
    `getrusage` goes on from that of the process that started this one."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(_peak(sys.argv[1]))
