"""Seconds of things that are done in turns, so that what the machine does meanwhile touches all of
them alike."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

Action = Callable[[], object]


def seconds(action: Action, times: int = 1) -> float:
    """One go: processor seconds of this process on a CPU, which other work on the machine disturbs
    less than the clock's; the clock's on a GPU, from the first kernel to the end of the last."""
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(times):
        action()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - start) / times


def in_turns(actions: Sequence[Action], repeats: int, least: float = 0.15) -> list[list[float]]:
    """Seconds of each action, `repeats` of them, one of each in every turn, after one turn that is
    not counted. What is short is done several times a turn.

    Args:
        actions: what to time.
        repeats: turns.
        least: seconds that an action should take a turn.
    """
    times = [max(1, round(least / max(seconds(action), 1e-6))) for action in actions]
    return [
        list(each) for each in zip(*([_turn(actions, times) for _ in range(repeats)]), strict=True)
    ]


def _turn(actions: Sequence[Action], times: Sequence[int]) -> list[float]:
    return [seconds(action, often) for action, often in zip(actions, times, strict=True)]


def ratio(over: Action, under: Action, repeats: int) -> list[float]:
    """`over` ÷ `under` of each turn."""
    above, below = in_turns((over, under), repeats)
    return [one / other for one, other in zip(above, below, strict=True)]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
