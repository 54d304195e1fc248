"""Which row of which set an example is: a function of its number alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from training.data.permutation import key_of, permuted

_BLOCK = 4096
"""So many consecutive examples have exactly the shares of a mixture."""


@dataclass(frozen=True)
class Places:
    """Where M examples lie.

    Args:
        source: [M] int64, the set.
        row: [M] uint64, the row of that set.
        epoch: [M] uint64, how often all rows of that set came before.
    """

    source: NDArray[np.int64]
    row: NDArray[np.uint64]
    epoch: NDArray[np.uint64]


class Mixture:
    """Examples from several sets, every row of a set once an epoch of it.

    Without weights the sets are one after the other, and each epoch is a permutation of all of
    their rows. With weights each 4,096 consecutive examples hold each set's share of them (weights
    are rounded to 1/4096), in an order that is another one each time, and each set has epochs of
    its own.

    Args:
        sizes: the rows of each set, 1 or more.
        weights: of each set, above 0; None: none.
        seed: of the order.
        purpose: a number that tells orders apart, such as the split's.
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float] | None, seed: int, purpose: int
    ):
        self.sizes = np.array(sizes, dtype=np.uint64)
        self.seed = seed
        self.purpose = purpose
        self.shares = None if weights is None else shares_of(weights)

    def places(self, numbers: NDArray[np.uint64]) -> Places:
        """Where examples lie.

        Args:
            numbers: [M], of the examples, below 2**62.
        """
        if self.shares is None:
            total = np.uint64(int(self.sizes.sum()))
            epoch, within = np.divmod(numbers, total)
            row = permuted(within, int(total), key_of(self.seed, self.purpose, epoch))
            ends = np.cumsum(self.sizes)
            source = np.searchsorted(ends, row, side="right")
            return Places(source, row - (ends - self.sizes)[source], epoch)
        ends = np.cumsum(self.shares)
        block, within = np.divmod(numbers, np.uint64(_BLOCK))
        slot = permuted(within, _BLOCK, key_of(self.seed, self.purpose, 1, block))
        source = np.searchsorted(ends, slot, side="right")
        own = block * self.shares[source] + slot - (ends - self.shares)[source]
        epoch, within = np.divmod(own, self.sizes[source])
        row = np.empty_like(within)
        for number in np.unique(source).tolist():
            of_it = source == number
            keys = key_of(self.seed, self.purpose, 2 + number, epoch[of_it])
            row[of_it] = permuted(within[of_it], int(self.sizes[number]), keys)
        return Places(source, row, epoch)


def shares_of(weights: Sequence[float]) -> NDArray[np.uint64]:
    """How many of 4,096 examples are of each set: at least one, 4,096 in all.

    Raises:
        UsageError: for weights that are not above 0.
    """
    if not all(0 < weight < float("inf") for weight in weights):
        raise UsageError(
            f"--data.weights {' '.join(map(str, weights))}.",
            "Each is how often its folder is read, beside the others.",
            "Write numbers above 0, one a folder, such as --data.weights 3 1.",
        )
    exact = np.array(weights, dtype=np.float64) / sum(weights) * _BLOCK
    shares = np.maximum(np.floor(exact), 1).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")  # the most wanting first
    missing = _BLOCK - int(shares.sum())
    if missing >= 0:
        shares[order[:missing]] += 1
    else:
        shares[np.argmax(shares)] += missing
    return shares.astype(np.uint64)
