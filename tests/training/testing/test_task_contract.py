"""The contract of a task, for every task that is here; and what breaks it, refused at the start."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from echo_runs import Echo
from small_runs import small
from token_folders import folder_of, texts
from weighted_task import Weighted

from halting import UsageError
from training.build import build_all
from training.config.parts import resolve
from training.tasks import (
    IGNORE,
    Addition,
    Batch,
    Parity,
    ParityVector,
    PointerChase,
    Task,
    TextBytes,
    Tokens,
)
from training.tasks.check_task import check_task
from training.testing import TaskContract

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


class TestPointerChase(TaskContract):
    def make_task(self, seed: int) -> Task:
        return PointerChase(seed=seed)


class TestParity(TaskContract):
    def make_task(self, seed: int) -> Task:
        return Parity(length=7, seed=seed)


class TestParityVector(TaskContract):
    def make_task(self, seed: int) -> Task:
        return ParityVector(seed=seed)


class TestAddition(TaskContract):
    def make_task(self, seed: int) -> Task:
        return Addition(digits=5, seed=seed)


class TestTextBytes(TaskContract):
    def make_task(self, seed: int) -> Task:
        return TextBytes(text=str(Path(__file__)), length=20, seed=seed)


class TestTokens(TaskContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = folder_of(tmp_path / "tokens", texts(200))

    def make_task(self, seed: int) -> Task:
        return Tokens((str(self.folder),), length=24, seed=seed)


class TestTokensUnpacked(TestTokens):
    def make_task(self, seed: int) -> Task:
        return Tokens((str(self.folder),), length=24, pack="off", seed=seed)


class TestTokensMixed(TestTokens):
    def make_task(self, seed: int) -> Task:
        other = self.folder.with_name("other")
        if not other.exists():
            folder_of(other, texts(80, seed=1))
        return Tokens((str(self.folder), str(other)), weights=(1, 3), length=24, seed=seed)


class TestExampleTask(TaskContract):
    def make_task(self, seed: int) -> Task:
        cls: Any = resolve(f"{EXAMPLES / 'my_task.py'}:Brackets", Task)  # pyright: ignore[reportAbstractUsage]
        return cls(seed=seed)


class TestWeighted(TaskContract):
    def make_task(self, seed: int) -> Task:
        return Weighted(extra="documents", seed=seed)


class Broken(Echo):
    """Echo, broken in one way."""

    difficulty_name = "none"
    change: Callable[[Any, str, int, int, Batch], Any]

    def __init__(self, seed: int = 0):
        super().__init__(length=6, kinds=10)

    def batch(self, split: str, index: int, size: int) -> Batch:
        return type(self).change(self, split, index, size, super().batch(split, index, size))


def changing(**fields: Callable[[Batch], Any]) -> Callable[..., Batch]:
    def change(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
        made = batch.map(lambda field: field)
        for name, make in fields.items():
            object.__setattr__(made, name, make(batch))
        return made

    return change


def from_torch(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    return replace(batch, targets=torch.randint(0, 10, batch.targets.shape))


def from_numpy(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    return replace(batch, targets=torch.from_numpy(np.random.randint(0, 10, batch.targets.shape)))


def by_the_call(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    drawn = np.random.default_rng(index).integers(0, 10, batch.targets.shape)
    return replace(batch, targets=torch.from_numpy(drawn))


def counting(task: Any, split: str, index: int, size: int, batch: Batch) -> Batch:
    task.count = getattr(task, "count", 0) + 1
    return replace(batch, difficulty=batch.difficulty + task.count)


def seeding(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    torch.manual_seed(index)
    return batch


def padded_to_the_longest(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    return batch.map(lambda field: field[:, : 3 + size % 3])


def ending(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    return batch if index + size <= 40 else [batch][1]


def sometimes_weighted(task: Task, split: str, index: int, size: int, batch: Batch) -> Batch:
    return replace(batch, loss_weights=torch.ones(batch.tokens.shape)) if index == 0 else batch


BROKEN: list[tuple[Callable[..., Any], str]] = [
    (from_torch, "makes other targets when batch|moves torch's random state"),
    (from_numpy, "makes other targets when batch.* is called again"),
    (by_the_call, "makes other targets in batch\\('train', 2, 2\\) than"),
    (counting, "makes other difficulty when"),
    (seeding, "moves torch's random state"),
    (padded_to_the_longest, "makes other tokens"),
    (sometimes_weighted, "makes other fields"),
    (ending, r"batch\('train', 95, 1\) fails: IndexError.*modulo n"),
    (lambda task, split, index, size, batch: (batch.tokens, batch.targets), "returns a tuple"),
    (lambda task, split, index, size, batch: batch.rows(0, 1), "makes 1 examples.*asked for 4"),
    (
        changing(tokens=lambda batch: batch.tokens + 1),
        "makes the token 10, and its vocab_size is 10.*vocab_size to 11",
    ),
    (changing(tokens=lambda batch: batch.tokens - 1), "makes the token -1.*0 or more"),
    (changing(targets=lambda batch: batch.targets + 7), "makes the target 1[0-6].*vocab_size"),
    (changing(targets=lambda batch: batch.targets - 1), "makes the target -1.*-100 where"),
    (changing(valid=lambda batch: batch.tokens > 2), "targets on padding.*IGNORE"),
    (changing(tokens=lambda batch: batch.tokens.int()), r"tokens as torch.int32.*tokens.long\(\)"),
    (changing(tokens=lambda batch: batch.tokens.tolist()), "tokens as a list"),
    (changing(targets=lambda batch: batch.targets.float()), r"targets as torch.float32.*int64"),
    (changing(valid=lambda batch: batch.valid.long()), r"valid as torch.int64.*valid.bool\(\)"),
    (changing(difficulty=lambda batch: batch.tokens), "difficulty as torch.int64"),
    (changing(tokens=lambda batch: batch.tokens[:, 0]), r"tokens of shape \[4\]"),
    (changing(targets=lambda batch: batch.targets[:, :-1]), r"targets of shape \[4, 5\]"),
    (changing(valid=lambda batch: batch.valid[:, :1]), r"valid of shape \[4, 1\]"),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_a_broken_task_is_refused_before_it_trains(
    change: Callable[..., Any], words: str, tmp_path: Path
) -> None:
    """By the start of a training and by the contract."""
    cls = type("Breaking", (Broken,), {"change": staticmethod(change)})
    with pytest.raises(UsageError, match=words) as refusal:
        check_task(cls(), {"train": 96})
    assert refusal.value.why and refusal.value.write

    class Contract(TaskContract):
        def make_task(self, seed: int) -> Task:
            return cls(seed)

    tests = ("batches_are_what_they_say", "examples_are_a_pure_function")
    failed = 0
    for test in tests:
        try:
            getattr(Contract(), f"test_{test}")()
        except AssertionError:
            failed += 1
    assert failed, "the contract holds"


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("vocab_size", 0), ("vocab_size", 2.5), ("max_length", None), ("max_length", True)],
)
def test_attributes_that_are_no_sizes_are_refused(attribute: str, value: Any) -> None:
    task = Echo()
    setattr(task, attribute, value)
    with pytest.raises(UsageError, match=f"Echo has {attribute} {value}"):
        check_task(task)


def test_sequences_beyond_max_length_are_refused() -> None:
    task = Echo(length=5)
    task.max_length = 4
    task.batch = lambda *given: Echo(length=5).batch(*given)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UsageError, match="5 positions, and its max_length is 4"):
        check_task(task)


class Fresh(Echo):
    """Draws from numpy's global state."""

    def batch(self, split: str, index: int, size: int) -> Batch:
        return from_numpy(self, split, index, size, super().batch(split, index, size))


class Empty(Echo):
    vocab_size = 0  # pyright: ignore[reportAssignmentType]

    def __init__(self, seed: int = 0):
        super().__init__(kinds=0)


@pytest.mark.parametrize(("cls", "words"), [(Fresh, "other targets when"), (Empty, "vocab_size 0")])
def test_a_run_looks_before_anything_is_written(
    cls: type[Task], words: str, tmp_path: Path
) -> None:
    config = small(tmp_path, data={"kind": f"{cls.__module__}:{cls.__name__}"})
    with pytest.raises(UsageError, match=words):
        build_all(config)
    assert not list(tmp_path.iterdir())


class Same(Echo):
    """Every example, in every split, is the same."""

    difficulty_name = "nothing"

    def batch(self, split: str, index: int, size: int) -> Batch:
        return Batch.stack([super().batch(split, 0, 1)] * size)


class Unnamed(Echo):
    def decode(self, tokens: list[int]) -> list[str]:
        return ["".join(map(str, tokens))]


@pytest.mark.parametrize(
    ("cls", "test", "words"),
    [
        (Same, "the_seed_makes_other_examples", "seeds 0 and 1"),
        (Same, "the_splits_are_others", "those of training"),
        (Same, "examples_differ", "all examples are the same"),
        (Unnamed, "tokens_can_be_shown", "1 texts for"),
        (Unnamed, "difficulty_has_a_name_where_there_is_one", "difficulty_name is None"),
    ],
)
def test_the_contract_names_what_is_wrong(cls: type[Task], test: str, words: str) -> None:
    class Contract(TaskContract):
        def make_task(self, seed: int) -> Task:
            return cls()

    with pytest.raises(AssertionError, match=words):
        getattr(Contract(), f"test_{test}")()


def test_ignored_targets_are_no_answers() -> None:
    task = Echo(length=6, kinds=10)
    task.batch = lambda split, index, size: replace(  # pyright: ignore[reportAttributeAccessIssue]
        Echo(length=6, kinds=10).batch(split, index, size),
        targets=torch.full((size, 6), IGNORE),
    )
    check_task(task)
