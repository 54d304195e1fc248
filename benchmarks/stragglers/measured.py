"""Two real ranks that train by order and by the last map, in turns: what they waited."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.ranks import launch

RANKS = 2
MICRO_BATCH = 4
_WATCHDOG = 1200.0
_FIRST = 2  # updates that warm up


@dataclass(frozen=True)
class MeasuredEfficiency:
    """One way to deal on real ranks, update by update, [R U]: of each update on each rank the least
    of all repeats, which are the same computation, so that what other programs on the machine took
    is mostly left out.

    Args:
        steps: token-steps.
        computing, waiting: seconds, as `training.runs.rank_report` tells them apart.
        losses: [U].
    """

    steps: NDArray
    computing: NDArray
    waiting: NDArray
    losses: NDArray

    def lost(self, of: NDArray) -> float:
        """The share of the ranks' time that is lost where `of` is what a rank takes: 1 − mean ÷
        most."""
        return 1 - float(of.mean(0).sum() / of.max(0).sum())

    @property
    def behind(self) -> float:
        """Token-steps that the mean rank has less than the one with most, an update."""
        return float((self.steps.max(0) - self.steps.mean(0)).mean())

    @property
    def waited(self) -> float:
        """Seconds that the mean rank waits more than the one with most token-steps, an update: what
        all ranks wait alike (for what they send, for a processor that others took) is left out."""
        of_slowest = np.take_along_axis(self.waiting, self.steps.argmax(0)[None], 0)
        return float((self.waiting.mean(0) - of_slowest).mean())


def measure(updates: int, repeats: int) -> dict[str, MeasuredEfficiency]:
    """Trains on two ranks under ZeRO-1, by each way in turns.

    Raises:
        RuntimeError: where a rank fails, or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [folder, str(updates), str(repeats), str(MICRO_BATCH)]
        log = Path(folder) / "ranks.log"
        worker = "benchmarks.stragglers.worker"
        if failed := launch(worker, words, RANKS, log, lambda: None, _WATCHDOG):
            raise RuntimeError(failed)
        written = [
            json.loads((Path(folder) / f"rank-{rank}.json").read_text()) for rank in range(RANKS)
        ]
    found = {}
    for way, losses in written[0]["losses"].items():
        each = np.array([rank["updates"][way] for rank in written])[
            :, :, _FIRST:
        ]  # rank, repeat, update, figure
        assert (each[:, :, :, 0] == each[:, :1, :, 0]).all(), "repeats do the same"
        steps, computing, waiting = np.moveaxis(each.min(1), -1, 0)
        found[way] = MeasuredEfficiency(steps, computing, waiting, np.array(losses))
    return found


def seconds_a_step(found: Sequence[MeasuredEfficiency]) -> float:
    """Seconds that a token-step takes: the slope of a straight line through all updates on all
    ranks."""
    steps = np.concatenate([each.steps.flatten() for each in found])
    return float(
        np.polyfit(steps, np.concatenate([each.computing.flatten() for each in found]), 1)[0]
    )
