"""A deal: which sequences of a global batch go to which rank, so that the ranks compute equally
long."""

import numpy as np
from numpy.typing import NDArray

_EXCHANGES = 8  # rounds; after these hardly anything is gained
_EVEN = 1e-3  # so near to the mean is the heaviest hand even enough


def in_order(num_rows: int, micro_batches: int, ranks: int) -> NDArray[np.int64]:
    """[M R b]: the naive deal, rows as they come, by micro-batch, then by rank."""
    return np.arange(num_rows).reshape(micro_batches, ranks, -1)


def deal(costs: NDArray[np.float64], micro_batches: int, ranks: int) -> NDArray[np.int64]:
    """[M R b]: the rows of micro-batch m on rank r, every row once, b = B / (M·R) to each, costs as
    even as can be.

    The hands are dealt in rounds, a row each: the heaviest rows of a round go to the lightest hands
    (longest processing time first, Graham 1969, with equal numbers of rows). Then hands that are
    too heavy exchange a row with hands that are too light. Hands of nearly the same cost make a
    micro-batch, since ranks may meet in each of them, and within it the heaviest goes to the rank
    that has had least, since they surely meet at the end. Never worse than rows as they come, by
    `slowest`.

    A function of its arguments alone, so ranks that know the same costs need not talk. O(B log B)
    and, for the exchanges, O(B·b); no loop over rows.

    Args:
        costs: [B] what each row is expected to cost, in any unit, finite.
        micro_batches: M.
        ranks: R; M·R divides B.
    """
    naive = in_order(len(costs), micro_batches, ranks)
    num_hands = micro_batches * ranks
    hands = np.empty((num_hands, naive.shape[2]), dtype=np.int64)
    loads = np.zeros(num_hands)
    for number, rows in enumerate(np.argsort(-costs, kind="stable").reshape(-1, num_hands)):
        lightest = np.argsort(loads, kind="stable")
        hands[lightest, number] = rows
        loads[lightest] += costs[rows]
    for _ in range(_EXCHANGES):
        if costs[hands].sum(1).max() <= (1 + _EVEN) * loads.mean() or not _exchange(hands, costs):
            break
    dealt = _lay_out(hands, costs, micro_batches, ranks)
    dealt.sort(axis=2)
    return dealt if slowest(costs, dealt) < slowest(costs, naive) else naive


def slowest(costs: NDArray[np.float64], dealt: NDArray[np.int64]) -> float:
    """The cost of the slowest rank, where ranks wait for one another after each micro-batch."""
    return float(costs[dealt].sum(2).max(1).sum())


def _exchange(hands: NDArray[np.int64], costs: NDArray[np.float64]) -> bool:
    """Pairs the heaviest hand with the lightest, the second with the second, …; each pair exchanges
    the two rows that bring it nearest to even. Whether any did."""
    by_load = np.argsort(-costs[hands].sum(1), kind="stable")
    half = len(hands) // 2
    heavy = by_load[:half]
    light = by_load[::-1][:half]
    of_heavy = costs[hands[heavy]]
    of_light = costs[hands[light]]
    gap = of_heavy.sum(1) - of_light.sum(1)
    left = np.abs(gap[:, None, None] - 2 * (of_heavy[:, :, None] - of_light[:, None, :])).reshape(
        half, -1
    )
    best = left.argmin(1)
    pairs = np.arange(half)
    helps = left[pairs, best] < gap * (1 - 1e-9)
    give, take = np.divmod(best[helps], hands.shape[1])
    heavy = heavy[helps]
    light = light[helps]
    hands[heavy, give], hands[light, take] = hands[light, take], hands[heavy, give]
    return bool(helps.any())


def _lay_out(
    hands: NDArray[np.int64], costs: NDArray[np.float64], micro_batches: int, ranks: int
) -> NDArray[np.int64]:
    """[M R b]: which hand is whose, and when."""
    loads = costs[hands].sum(1)
    dealt = np.empty((micro_batches, ranks, hands.shape[1]), dtype=np.int64)
    had = np.zeros(ranks)
    for micro, meeting in enumerate(
        np.argsort(-loads, kind="stable").reshape(micro_batches, ranks)
    ):
        least_first = np.argsort(had, kind="stable")
        dealt[micro, least_first] = hands[meeting]
        had[least_first] += loads[meeting]
    return dealt
