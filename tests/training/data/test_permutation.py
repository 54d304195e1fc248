"""Permutations without a table: one to one, other ones for other keys; mixtures in exact shares."""

import numpy as np
import pytest

from halting import UsageError
from training.data.mixture import Mixture, shares_of
from training.data.permutation import key_of, permuted

SIZES = (1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 255, 257, 1000, 4096, 4097, 10_007, 65_537)


def order(size: int, *key: int) -> list[int]:
    return permuted(np.arange(size, dtype=np.uint64), size, key_of(*key)).tolist()


@pytest.mark.parametrize("size", SIZES)
def test_it_is_one_to_one(size: int):
    for seed in range(3):
        assert sorted(order(size, seed)) == list(range(size))


@pytest.mark.parametrize("size", [size for size in SIZES if size >= 15])
def test_other_keys_make_other_orders(size: int):
    orders = [order(size, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len(set(map(tuple, orders))) == len(orders)
    assert all(each != list(range(size)) for each in orders)


def test_a_number_goes_where_it_goes_alone_too():
    whole = order(1000, 7)
    for number in (0, 5, 999):
        one = permuted(np.array([number], dtype=np.uint64), 1000, key_of(7))
        assert one.tolist() == [whole[number]]
    keys = key_of(7, np.arange(4, dtype=np.uint64))
    many = permuted(np.full(4, 5, dtype=np.uint64), 1000, keys)
    each = [
        permuted(np.array([5], dtype=np.uint64), 1000, key_of(7, epoch))[0] for epoch in range(4)
    ]
    assert many.tolist() == each


def test_huge_sizes_stay_within_their_bounds():
    numbers = np.arange(2**61, 2**61 + 500, dtype=np.uint64)
    found = permuted(numbers, 2**62 - 57, key_of(3))
    assert len(set(found.tolist())) == 500
    assert int(found.max()) < 2**62 - 57


def test_places_are_as_good_as_random():
    """Every number goes to each eighth equally often, whatever the key: χ² with 7 degrees of
    freedom lies below 24.3 in 999 of 1,000."""
    counts = np.zeros(8)
    for seed in range(4000):
        where = permuted(np.array([17], dtype=np.uint64), 800, key_of(seed))
        counts[int(where[0]) // 100] += 1
    assert ((counts - 500) ** 2 / 500).sum() < 24.3


def test_without_weights_each_row_of_each_set_comes_once_an_epoch():
    mixture = Mixture([7, 100, 1], None, seed=3, purpose=0)
    for epoch in range(3):
        numbers = np.arange(108 * epoch, 108 * (epoch + 1), dtype=np.uint64)
        found = mixture.places(numbers)
        rows = sorted(zip(found.source.tolist(), found.row.tolist(), strict=True))
        assert rows == [(each, row) for each, size in enumerate((7, 100, 1)) for row in range(size)]
        assert set(found.epoch.tolist()) == {epoch}


def test_with_weights_each_set_has_its_share_and_epochs_of_its_own():
    mixture = Mixture([50, 3000], [1, 3], seed=3, purpose=0)
    found = mixture.places(np.arange(3 * 4096, dtype=np.uint64))
    assert np.bincount(found.source[:4096]).tolist() == [1024, 3072]
    for source, size in ((0, 50), (1, 3000)):
        of_it = np.flatnonzero(found.source == source)
        by_epoch: dict[int, list[int]] = {}
        for place in of_it:
            by_epoch.setdefault(int(found.epoch[place]), []).append(int(found.row[place]))
        whole = [sorted(rows) for rows in by_epoch.values() if len(rows) == size]
        assert len(whole) == len(of_it) // size
        assert all(rows == list(range(size)) for rows in whole)
    assert found.source[:64].tolist() != found.source[4096:4160].tolist()


@pytest.mark.parametrize("weights", [(1, 1), (3, 1, 1e-9), (0.3, 0.3, 0.3), (1e9, 1, 1, 1)])
def test_shares_add_up_and_leave_nobody_out(weights: tuple[float, ...]):
    shares = shares_of(weights)
    assert shares.sum() == 4096 and shares.min() >= 1
    exact = np.array(weights) / sum(weights) * 4096
    assert np.abs(shares - exact).max() <= len(weights)


@pytest.mark.parametrize("weights", [(1, 0), (-1, 2), (float("nan"), 1), (float("inf"), 1)])
def test_weights_that_cannot_be_are_refused(weights: tuple[float, ...]):
    with pytest.raises(UsageError, match="--data.weights"):
        shares_of(weights)
