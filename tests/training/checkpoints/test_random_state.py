"""What a rank draws: by the run's seed and its rank, whatever was drawn before, and restored to the
bit."""

import itertools
import random

import numpy as np
import pytest
import torch
from small_runs import losses, small, train_only

from training.checkpoints.random_state import random_state, restore_random_state, seed_rank


def draw() -> tuple[float, ...]:
    return (*torch.rand(3).tolist(), *np.random.random(3), random.random())


@pytest.fixture(autouse=True)
def _leave_the_generators_as_they_were():
    before = random_state()
    yield
    restore_random_state(before)


def test_every_seed_and_rank_draws_its_own_numbers_again_and_again() -> None:
    found = []
    for seed, rank in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 0)):
        seed_rank(seed, rank)
        found.append(draw())
    assert found[0] == found[-1] and len(set(found)) == 4
    for one, other in itertools.pairwise(found):
        assert not set(one) & set(other)


def test_a_kept_state_goes_on_to_the_bit() -> None:
    seed_rank(3, 2)
    draw()
    kept = random_state()
    drawn = draw()
    restore_random_state(kept)
    assert draw() == drawn != draw()


def test_a_rule_that_draws_does_so_by_the_seed_of_the_run(tmp_path) -> None:
    """Whatever this process drew before, and not the same for every seed."""
    found = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        halting = {"kind": "QHalt", "options": {"explore": 0.5}}
        assert train_only(small(tmp_path, name=name, updates=6, halting=halting, seed=seed)) == 0
        found.append(losses(tmp_path / name))
    assert found[0] == found[1] != found[2]
