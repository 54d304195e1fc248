"""A command, and the most memory that it and its processes hold together."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Watched:
    """How a command went.

    Args:
        code: of its exit.
        seconds: on the wall.
        processor_seconds: of it and its processes, as far as they were seen.
        peak: the most bytes that they held at once; pages that several share, and files that are
            mapped, count once (proportional set size).
        output: what it said.
    """

    code: int
    seconds: float
    processor_seconds: float
    peak: int
    output: str


def watch(command: Sequence[str], every: float = 0.1) -> Watched:
    """Runs a command, and looks at it so often (seconds)."""
    begun = time.perf_counter()
    peak = 0
    spent: dict[int, float] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while process.poll() is None:
            peak = max(peak, _held(process.pid, spent))
            time.sleep(every)
        assert process.stdout is not None
        output = process.stdout.read()
    seconds = time.perf_counter() - begun
    return Watched(process.returncode, seconds, sum(spent.values()), peak, output)


def _held(pid: int, spent: dict[int, float]) -> int:
    """Bytes that a process and those below it hold; notes their processor seconds."""
    held = 0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for each in family:
        try:
            held += each.memory_full_info().pss
            times = each.cpu_times()
            spent[each.pid] = times.user + times.system
        except psutil.Error:
            continue
    return held
