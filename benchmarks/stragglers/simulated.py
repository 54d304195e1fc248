"""Efficiency of 8 to 1,024 ranks, simulated from recorded step counts."""

from dataclasses import dataclass

import numpy as np

from benchmarks.stragglers.counts import Counts
from training.distributed.dealing import deal, in_order, slowest

RANKS = (8, 16, 32, 64, 128, 256, 512, 1024)
LAST = 1 / 3  # of the training, whose counts are drawn from
WAYS = ("order", "length", "difficulty", "ponder", "truth")


@dataclass(frozen=True)
class Efficiency:
    """What one way to deal makes of one number of ranks.

    Args:
        recipe, spread: whose counts, and their standard deviation ÷ mean over sequences.
        micro_batch: sequences a rank and update.
        ranks: how many.
        way: what costs are expected by; "order" is the naive deal, "truth" knows the counts.
        efficiency: the mean rank's token-steps ÷ those of the rank that has most, over all updates.
        recovered: of what the naive deal loses.
    """

    recipe: str
    spread: float
    micro_batch: int
    ranks: int
    way: str
    efficiency: float
    recovered: float


def simulate(
    recipe: str, counts: Counts, ranks: int, micro_batch: int, updates: int = 0
) -> list[Efficiency]:
    """All ways on the same draws: each update's sequences are drawn with replacement from those of
    the last third of the training. A rank's time is the sum of its sequences' token-steps.

    Args:
        recipe: its name.
        counts: what it recorded.
        ranks: how many.
        micro_batch: sequences of each.
        updates: how many are drawn; 0: as many as make 4,096 ranks, at least 24.
    """
    last = counts.last(LAST)
    draws = np.random.default_rng(ranks)
    known = {
        "length": last.length,
        "difficulty": last.difficulty,
        "ponder": last.ponder,
        "truth": last.steps,
    }
    known = {
        way: column.astype(np.float64) for way, column in known.items() if np.isfinite(column).all()
    }
    mean = 0.0
    most = dict.fromkeys(("order", *known), 0.0)
    for _ in range(updates or max(24, 4096 // ranks)):
        drawn = draws.integers(len(last.steps), size=ranks * micro_batch)
        steps = last.steps[drawn].astype(np.float64)
        mean += float(steps.sum()) / ranks
        most["order"] += slowest(steps, in_order(len(steps), 1, ranks))
        for way, column in known.items():
            most[way] += slowest(steps, deal(column[drawn], 1, ranks))
    lost = 1 - mean / most["order"]
    return [
        Efficiency(
            recipe,
            last.spread,
            micro_batch,
            ranks,
            way,
            mean / slow,
            (mean / slow - (1 - lost)) / lost if lost > 0 else 0.0,
        )
        for way, slow in most.items()
    ]
