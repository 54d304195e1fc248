"""What the training asks of a task, as tests, for anybody's.

Subclass `TaskContract` in a test file and let pytest collect it:

    class TestMyTask(TaskContract):
        def make_task(self, seed: int) -> Task:
            return MyTask(seed=seed)
"""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from halting.errors import UsageError
from training.tasks.check_batch import check_vocabulary
from training.tasks.check_task import check_pure, check_task, differing_field, made
from training.tasks.task import SPLITS, Batch, Task


class TaskContract:
    """What a task has to be. A test may be called by hand: it raises AssertionError.

    Attributes:
        num_examples: how many of each split are looked at; 8 or more.
        draws_from_seed: another seed makes other examples.
        splits_differ: validation and test examples are others than those of training.
    """

    num_examples: int = 32
    draws_from_seed: bool = True
    splits_differ: bool = True

    def make_task(self, seed: int) -> Task:
        """The task under test."""
        raise NotImplementedError

    def test_batches_are_what_they_say(self) -> None:
        """Types, shapes and dtypes; tokens and targets of the vocabulary, sequences of at most
        `max_length`."""
        task = self.make_task(0)
        with _asserting():
            check_task(task)
        for split in SPLITS:
            for index in (0, 1_000_003):
                batch = _batch(task, split, index, self.num_examples)
                with _asserting():
                    check_vocabulary(batch, task)
                assert bool(batch.has_target.any()), f"no target in {len(batch.tokens)} examples"
                assert bool(batch.valid.any(1).all()), "an example without a token"

    def test_examples_are_a_pure_function(self) -> None:
        """Of seed, split and number: in whatever calls, whatever was drawn before, in whatever
        object."""
        task = self.make_task(0)
        for split in SPLITS:
            whole = _batch(task, split, 0, self.num_examples)
            with _asserting():
                check_pure(task, split, whole)
            torch.manual_seed(123)
            np.random.seed(123)
            random.seed(123)
            for other in (task, self.make_task(0), copy.deepcopy(task)):
                for number in (self.num_examples - 1, 3, 0):
                    alone = _batch(other, split, number, 1)
                    _assert_same(alone, whole.rows(number, number + 1), f"{split} {number}")
            far = _batch(task, split, 5_000, 1)
            picked = task.examples(split, [5, 1, 5_000])
            _assert_same(picked.rows(0, 2), whole.pick([5, 1]), f"examples of {split}")
            _assert_same(picked.rows(2, 3), far, f"example of {split}")

    def test_nobody_elses_draws_are_touched(self) -> None:
        task = self.make_task(0)
        before = (torch.get_rng_state(), random.getstate(), _numpy_state())
        _batch(task, "train", 0, self.num_examples)
        assert torch.equal(torch.get_rng_state(), before[0]), "torch's random state moves"
        assert random.getstate() == before[1], "Python's random state moves"
        assert _numpy_state() == before[2], "numpy's random state moves"

    def test_the_seed_makes_other_examples(self) -> None:
        if not self.draws_from_seed:
            pytest.skip("its examples do not depend on the seed")
        first, other = (
            _batch(self.make_task(seed), "train", 0, self.num_examples) for seed in (0, 1)
        )
        assert differing_field(first, other), "seeds 0 and 1 make the same examples"

    def test_the_splits_are_others(self) -> None:
        if not self.splits_differ:
            pytest.skip("its splits may share examples")
        task = self.make_task(0)
        train, *others = (_batch(task, split, 0, self.num_examples) for split in SPLITS)
        for split, batch in zip(SPLITS[1:], others, strict=True):
            assert differing_field(train, batch), (
                f"the first {split} examples are those of training"
            )

    def test_examples_differ(self) -> None:
        batch = _batch(self.make_task(0), "train", 0, self.num_examples)
        first = batch.tokens[:1].expand_as(batch.tokens)
        assert not torch.equal(batch.tokens, first), "all examples are the same"

    def test_tokens_can_be_shown(self) -> None:
        """One short printable text a token, also of every answer."""
        task = self.make_task(0)
        batch = _batch(task, "test", 0, 4)
        for row in range(4):
            tokens = batch.tokens[row][batch.valid[row]]
            for numbers in (tokens, batch.targets[row][batch.has_target[row]]):
                if numbers.dim() > 1:
                    continue
                shown = task.decode(numbers.tolist())
                assert len(shown) == len(numbers), f"{len(shown)} texts for {len(numbers)} tokens"
                assert all(isinstance(text, str) for text in shown), "decode gives no texts"

    def test_difficulty_has_a_name_where_there_is_one(self) -> None:
        task = self.make_task(0)
        defined = bool(_batch(task, "train", 0, 8).difficulty.isfinite().any())
        if defined and task.difficulty_name is None:
            raise AssertionError("examples have a difficulty, and difficulty_name is None")


def _batch(task: Task, split: str, index: int, size: int) -> Batch:
    with _asserting():
        return made(task, split, index, size)


def _numpy_state() -> list[int]:
    state = np.random.get_state(legacy=False)["state"]
    return [*state["key"].tolist(), state["pos"]]


@contextmanager
def _asserting() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise AssertionError(str(error)) from error


def _assert_same(one: Batch, other: Batch, what: str) -> None:
    field = differing_field(one, other)
    assert field is None, f"other {field}: {what}"
