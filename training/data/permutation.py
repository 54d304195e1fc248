"""Permutations that are nowhere stored: where a number goes is worked out from the number and a
key."""

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = tuple(np.uint64(number * int(GOLDEN) % 2**64) for number in range(1, 9))


def mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of splitmix64 (Steele, Lea & Flood, OOPSLA 2014), which maps 64 bits one
    to one. Products wrap around, as they should."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key_of(*parts: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One 64-bit key [...] of several whole numbers, of which some may be arrays [...]."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        number = np.atleast_1d(np.array(part % 2**64 if isinstance(part, int) else part, np.uint64))
        key = mix(key + GOLDEN + mix(number + GOLDEN))
    return key


def permuted(
    numbers: NDArray[np.uint64], size: int, keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Where a permutation of 0 .. size − 1 takes numbers: for each key another one.

    A Feistel network (Luby & Rackoff 1988) permutes the smallest power of four that holds `size`;
    what falls beyond `size` is sent through again until it does not (cycle walking: Black &
    Rogaway, "Ciphers with arbitrary finite domains", 2002), fewer than four times on average.

    Args:
        numbers: [M], each below `size`.
        size: 1 to 2**62.
        keys: [M] or [1], as `key_of` makes them.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = np.broadcast_to(keys, numbers.shape)
    found = _feistel(numbers, half, keys)
    outside = np.flatnonzero(found >= size)
    while len(outside):
        again = _feistel(found[outside], half, keys[outside])
        found[outside] = again
        outside = outside[again >= size]
    return found


def _feistel(
    numbers: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Permutes the numbers of 2 · half bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left = numbers >> half
    right = numbers & mask
    for constant in _ROUNDS:
        turned = mix(right + keys + constant) & mask
        left, right = right, left ^ turned
    return left << half | right
