"""How many CPU threads compute, where nobody has said it."""

import os

from torch import nn

_WORTH = 65_536
"""Entries of a model's largest matrix, 128 × 512; for fewer a second thread costs more than it
gives."""
_TOLD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def told_by_environment() -> bool:
    """Whether the environment says how many threads there are: it is left as it is then."""
    return any(name in os.environ for name in _TOLD)


def threads_for(model: nn.Module) -> int | None:
    """1 for a small model: its threads would wait for one another at every little operation; None
    for torch's own choice, or the environment's."""
    if told_by_environment():
        return None
    largest = max((each.numel() for each in model.parameters()), default=0)
    return 1 if largest <= _WORTH else None


def threads_of_a_trial(jobs: int) -> int | None:
    """Those of one of so many processes on the cores that this one may use; None where it has them
    to itself, or the environment says."""
    if jobs == 1 or told_by_environment():
        return None
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, cores // jobs)
