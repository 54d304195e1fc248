"""What a task is: examples that are a pure function of (seed, split, index), with the difficulty of
each token."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from training.tasks.data_identity import DataIdentity

IGNORE = -100
"""The target of a position at which there is no target (the ignore_index of torch's cross
entropy)."""

SPLITS = ("train", "validation", "test")

_DENSE = 32
"""A call of `batch` costs about as much as so many rows do (measured: 20 to 50 for the tasks that
are here)."""


@dataclass(frozen=True)
class Batch:
    """B examples of L positions. Whatever is None is not there; what is there has a row an example,
    and goes along wherever rows are chosen, stacked or moved.

    Args:
        tokens: [B L] int64, what the model reads; [B L K] whole numbers where each position reads a
            vector of K.
        targets: [B L] int64, what it should say; `IGNORE` where there is no target.
        valid: [B L] bool, True on real tokens, False on padding.
        difficulty: [B L] float32, in the task's own unit (hops, position, carries); NaN where it is
            not defined.
        loss_weights: [B L] float, what a target's loss weighs, 0 or more; the task's loss is
            divided by the sum over the targets of the global batch. None: each weighs 1.
        documents: [B L] int64, the number of the document that a position belongs to.
        source: [B S] int64, what an encoder reads.
        source_valid: [B S] bool, True on its real tokens; comes with `source`.
        noise_level: [B] float, how noisy an example's tokens are.
    """

    tokens: Tensor
    targets: Tensor
    valid: Tensor
    difficulty: Tensor
    loss_weights: Tensor | None = None
    documents: Tensor | None = None
    source: Tensor | None = None
    source_valid: Tensor | None = None
    noise_level: Tensor | None = None

    @property
    def has_target(self) -> Tensor:
        """[B L] bool: the positions that have a target."""
        return self.targets != IGNORE

    @property
    def target_weight(self) -> Tensor:
        """What the task's loss is divided by: Σ weights of the targets, float64; their number where
        each weighs 1."""
        if self.loss_weights is None:
            return self.has_target.sum().double()
        return torch.where(self.has_target, self.loss_weights.double(), 0.0).sum()

    def carried(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch whose every field is `change` of this one's."""
        return Batch(**{name: change(value) for name, value in self.carried().items()})

    def rows(self, start: int, stop: int) -> "Batch":
        """Examples start .. stop − 1."""
        return self.map(lambda field: field[start:stop])

    def pick(self, numbers: Sequence[int]) -> "Batch":
        """The examples in these rows, in this order."""
        chosen = list(numbers)
        return self.map(lambda field: field[chosen])

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return self.map(lambda field: field.to(device))

    @staticmethod
    def stack(batches: Sequence["Batch"]) -> "Batch":
        """The examples of several batches that carry the same fields, one after the other."""
        carried = [batch.carried() for batch in batches]
        return Batch(**{name: torch.cat([each[name] for each in carried]) for name in carried[0]})


class Task(ABC):
    """Something to learn, one answer a token, with a known difficulty where there is one.

    A subclass sets the attributes and `batch`, `encode`, `decode`; its `__init__` arguments are
    what `--data.*` flags and `RunConfig.data.options` may hold, checked against the signature.
    `seed: int = 0` is one of them. A task that reads files says which (`identity`), so that a run
    that goes on or is evaluated meets the same ones. One that takes `kept_data: KeptData | None =
    None` is handed what its run keeps when it is read back, and then reads nothing until an example
    is asked for: a typed text needs no corpus.

    Attributes:
        vocab_size: V, the number of tokens (inputs and answers share one vocabulary; of answers
            where inputs are vectors).
        max_length: the longest L that `batch` returns.
        causal: whether position i may only look at positions ≤ i.
        difficulty_name: what difficulty counts, for axes and tables ("hops"); None where there is
            none.
        vector_size: K, where each position reads a vector of K numbers instead of a token.
        path_options: the options that are paths; a run's config.json has them absolute.
    """

    vocab_size: int
    max_length: int
    causal: bool = False
    difficulty_name: str | None = None
    vector_size: int | None = None
    path_options: ClassVar[tuple[str, ...]] = ()

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
        return Batch.stack([self.batch(split, number, 1) for number in numbers])

    @abstractmethod
    def encode(self, text: str) -> list[int] | list[list[int]]:
        """The tokens (or vectors) of a text that a person typed; raises `UsageError` for a text
        that is not of this task."""

    @abstractmethod
    def decode(self, tokens: list[int]) -> list[str]:
        """One short printable string a token."""

    def target_bytes(self, split: str, targets: Tensor) -> Tensor | None:
        """How many bytes of text each target [B L] of a split stands for, 0 where there is none:
        evaluation tells bits a byte by them. None where answers are no text."""
        return None

    def document_numbers(self, split: str, index: int, size: int) -> Tensor | None:
        """[B L] int64, the number among all of the document that each position of these examples is
        of: intervals are over documents. None where an example is one."""
        return None

    def identity(self) -> DataIdentity | None:
        """The files that examples are made from; None where the seed alone makes them. It is the
        same on every machine that has a copy of the files."""
        return None

    def vocabulary(self) -> Any:
        """What `encode`, `decode` and the sizes need beyond the options, from the files, as JSON
        values; a run keeps it. None where nothing is needed."""
        return None

    def says(self) -> str | None:
        """How much was read, for the screen; None where nothing was."""
        return None

    def warnings(self) -> tuple[str, ...]:
        """What of the files was left out or changed, a line each."""
        return ()
