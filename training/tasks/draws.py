"""Random draws that need no saved state: functions of the seed, the split, the example's number and
the draw's."""

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from training.data.permutation import GOLDEN, mix
from training.tasks.task import SPLITS

_MOST_EXAMPLES = 2**62


class Draws:
    """The draws of examples index .. index + size − 1 of a split, one row an example.

    Every call takes the next draws of each row, so an example's draws depend on its own number and
    the calls made before, never on the rest of the batch. The generator is splitmix64 (Steele, Lea
    & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), run once to turn an
    example's number into its key and once more to turn key and draw number into 64 random bits.
    Both maps are one to one, so no two examples of the three splits share a key.

    Args:
        seed: of the task.
        split: one of `SPLITS`.
        index: number of the first example, 0 or more.
        size: B, how many.

    Raises:
        UsageError: for a split that does not exist and a negative index or size.
    """

    def __init__(self, seed: int, split: str, index: int, size: int):
        if split not in SPLITS:
            raise UsageError(
                f"There is no split {split!r}.",
                f"There are {', '.join(SPLITS)}.",
                "Write one of them.",
            )
        if index < 0 or size < 0 or index + size > _MOST_EXAMPLES:
            raise UsageError(
                f"Examples {index} to {index + size} were asked for.",
                f"Examples are numbered from 0 to 2**62, and {size} is how many.",
                "Write an index and a size of at least 0.",
            )
        numbers = np.arange(index, index + size, dtype=np.uint64)
        # The split takes the two bits above the example's number, so that equal numbers of two
        # splits differ.
        numbers += np.uint64(SPLITS.index(split) * _MOST_EXAMPLES)
        start = mix(np.array([seed % 2**64], dtype=np.uint64) + GOLDEN)
        self.size = size
        self._keys = mix(start + numbers * GOLDEN)[:, None]
        self._taken = 0

    def bits(self, count: int) -> NDArray[np.uint64]:
        """[B count]: the next 64-bit draws of each example."""
        numbers = np.arange(self._taken + 1, self._taken + count + 1, dtype=np.uint64)
        self._taken += count
        return mix(self._keys + numbers * GOLDEN)

    def integers(self, below: int | NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """[B count]: the next integers, uniform over 0 .. below − 1 (a bias of below / 2**64 is
        left).

        Args:
            below: one limit, or one for each of the `count` draws; at least 1.
            count: draws an example.
        """
        return (self.bits(count) % np.asarray(below, dtype=np.uint64)).astype(np.int64)

    def permutations(self, length: int) -> NDArray[np.int64]:
        """[B length]: a permutation of 0 .. length − 1 for each example."""
        return np.argsort(self.bits(length), axis=1, kind="stable")
