"""Numbers put into groups: one for each value, or ten of about equal size where there are many."""

import numpy as np
from numpy.typing import NDArray

MOST_DISTINCT = 20
"""More values than this are put into ten groups."""
_GROUPS = 10


def grouped(values: NDArray[np.floating], most: int = MOST_DISTINCT) -> NDArray[np.integer]:
    """The group of each value, ascending. Equal values always stay together.

    Args:
        values: [M], finite.
        most: the most distinct values that have a group each.
    """
    distinct, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) > most:
        middle = np.cumsum(counts) - counts / 2  # the rank of each value
        group = (_GROUPS * middle / values.size).astype(int)[group]
    return group
