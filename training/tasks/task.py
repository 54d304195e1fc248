"""What a task is: examples that are a pure function of (seed, split, index), with the difficulty of
each token."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

IGNORE = -100
"""The target of a position at which there is no target (the ignore_index of torch's cross
entropy)."""

SPLITS = ("train", "validation", "test")

_DENSE = 32
"""A call of `batch` costs about as much as so many rows do (measured: 20 to 50 for the tasks that
are here)."""


@dataclass(frozen=True)
class Batch:
    """B examples of L positions.

    Args:
        tokens: [B L] int64, what the model reads; [B L K] whole numbers where each position reads a
            vector of K.
        targets: [B L] int64, what it should say; `IGNORE` where there is no target.
        valid: [B L] bool, True on real tokens, False on padding.
        difficulty: [B L] float32, in the task's own unit (hops, position, carries); NaN where it is
            not defined.
    """

    tokens: Tensor
    targets: Tensor
    valid: Tensor
    difficulty: Tensor

    @property
    def has_target(self) -> Tensor:
        """[B L] bool: the positions that have a target."""
        return self.targets != IGNORE

    def rows(self, start: int, stop: int) -> "Batch":
        """Examples start .. stop − 1."""
        return Batch(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    def pick(self, numbers: Sequence[int]) -> "Batch":
        """The examples in these rows, in this order."""
        return Batch(*(getattr(self, field.name)[list(numbers)] for field in fields(self)))

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class Task(ABC):
    """Something to learn, one answer a token, with a known difficulty where there is one.

    A subclass sets the attributes and `batch`, `encode`, `decode`; its `__init__` arguments are
    what `--data.*` flags and `RunConfig.data.options` may hold, checked against the signature.
    `seed: int = 0` is one of them.

    Attributes:
        vocab_size: V, the number of tokens (inputs and answers share one vocabulary; of answers
            where inputs are vectors).
        max_length: the longest L that `batch` returns.
        causal: whether position i may only look at positions ≤ i.
        difficulty_name: what difficulty counts, for axes and tables ("hops"); None where there is
            none.
        vector_size: K, where each position reads a vector of K numbers instead of a token.
    """

    vocab_size: int
    max_length: int
    causal: bool = False
    difficulty_name: str | None = None
    vector_size: int | None = None

    @abstractmethod
    def batch(self, split: str, index: int, size: int) -> Batch:
        """Examples index .. index + size − 1 of a split. A pure function of the seed and the
        example's number: `batch(s, 0, 8)` equals `batch(s, 0, 4)` and `batch(s, 4, 4)` stacked, so
        resuming needs no loader state and ranks can each make their own rows."""

    def examples(self, split: str, numbers: Sequence[int]) -> Batch:
        """Examples by number, at least one: what `batch` makes of each. Where they lie close
        together, all that lie between are made in one call; else each is made alone."""
        first = min(numbers)
        last = max(numbers)
        if last - first < _DENSE * len(numbers):
            return self.batch(split, first, last - first + 1).pick(
                [number - first for number in numbers]
            )
        alone = [self.batch(split, number, 1) for number in numbers]
        return Batch(
            *(torch.cat([getattr(each, field.name) for each in alone]) for field in fields(Batch))
        )

    @abstractmethod
    def encode(self, text: str) -> list[int] | list[list[int]]:
        """The tokens (or vectors) of a text that a person typed; raises `UsageError` for a text
        that is not of this task."""

    @abstractmethod
    def decode(self, tokens: list[int]) -> list[str]:
        """One short printable string a token."""

    def score(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """Extra figures of this task for predictions [B L]; accuracies are always reported, so most
        tasks add none."""
        return {}
