"""Parity of a vector: PonderNet's extrapolation experiment."""

from typing import Literal

import numpy as np
import torch

from halting.errors import UsageError
from training.tasks.draws import Draws
from training.tasks.options import require_at_least
from training.tasks.task import IGNORE, Batch, Task


class ParityVector(Task):
    """Of a vector of 0, 1 and −1, say whether the number of ones is odd (Graves 2016, section 3.1);
    the test split has more non-zero elements than any example that is trained on (PonderNet, Banino
    et al. 2021, section 3.1).

    The number of non-zero elements is uniform over fewest .. most, in training and validation, or
    test_fewest .. test_most, in the test split; they stand at random places, each 1 or −1 with
    equal chance. Difficulty is their number, the same for every position of an example.

    As a "vector", a position reads all elements at once, and there is one position, as in the
    papers. As "tokens", each element has a position of its own, and the answer is asked at the last
    one. Bidirectional.

    Args:
        length: elements of the vector.
        fewest, most: non-zero elements of an example to train on.
        test_fewest, test_most: non-zero elements of an example of the test split.
        layout: "vector" or "tokens" (0 and 1 as they are, 2 is −1).
        seed: of the examples.

    Raises:
        UsageError: for numbers of non-zero elements that no vector of this length can have.
    """

    difficulty_name = "non-zero elements"

    def __init__(
        self,
        length: int = 96,
        fewest: int = 1,
        most: int = 48,
        test_fewest: int = 49,
        test_most: int = 96,
        layout: Literal["vector", "tokens"] = "vector",
        seed: int = 0,
    ):
        require_at_least(
            2, "length", length, "The parity of a single element is the element itself."
        )
        for low, high, name in ((fewest, most, ""), (test_fewest, test_most, "test_")):
            if not 0 <= low <= high <= length:
                flags = (
                    f"--data.{name}fewest".replace("_", "-"),
                    f"--data.{name}most".replace("_", "-"),
                )
                raise UsageError(
                    f"{flags[0]} {low} and {flags[1]} {high} do not suit --data.length {length}.",
                    "They are the least and the largest number of non-zero elements of a vector of "
                    "that length.",
                    f"Write 0 ≤ {flags[0]} ≤ {flags[1]} ≤ {length}.",
                )
        self.length = length
        self.layout = layout
        self.seed = seed
        self.counts = dict.fromkeys(("train", "validation"), (fewest, most)) | {
            "test": (test_fewest, test_most)
        }
        self.vector_size = length if layout == "vector" else None
        self.max_length = 1 if layout == "vector" else length
        self.vocab_size = 2 if layout == "vector" else 3

    def batch(self, split: str, index: int, size: int) -> Batch:
        draws = Draws(self.seed, split, index, size)
        low, high = self.counts[split]
        count = low + draws.integers(high - low + 1, 1)
        sign = 1 - 2 * draws.integers(2, self.length)
        elements = np.where(draws.permutations(self.length) < count, sign, 0)
        answer = (elements == 1).sum(axis=1, keepdims=True) % 2
        shape = (size, self.max_length)
        targets = np.full(shape, IGNORE)
        targets[:, -1:] = answer
        tokens = elements[:, None] if self.layout == "vector" else elements % 3
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            torch.ones(shape, dtype=torch.bool),
            torch.from_numpy(np.broadcast_to(count, shape).astype(np.float32)),
        )

    def encode(self, text: str) -> list[int] | list[list[int]]:
        """The elements of a text such as "0 1 -1 1"; as a vector, those that are missing at the end
        are 0.

        Raises:
            UsageError: for other words, no words, and more words than a vector has elements.
        """
        words = text.replace("−", "-").split()
        if not words or set(words) - {"0", "1", "+1", "-1"}:
            raise UsageError(
                f"The text {text!r} is not a vector.",
                "This task knows the elements 0, 1 and -1.",
                "Write them with spaces between, such as 0 1 -1 1.",
            )
        if len(words) > self.length:
            raise UsageError(
                f"The text has {len(words)} elements.",
                f"Vectors have {self.length} (--data.length).",
                f"Write {self.length} or fewer.",
            )
        elements = [int(word) for word in words]
        if self.layout == "tokens":
            return [element % 3 for element in elements]
        return [elements + [0] * (self.length - len(elements))]

    def decode(self, tokens: list[int] | list[list[int]]) -> list[str]:
        """An element, or an answer, as "0", "1" or "−1"; a vector as how many of each sign it has,
        such as "17+ 9−"."""
        return [
            ("0", "1", "−1")[each] if isinstance(each, int) else _counted(each) for each in tokens
        ]


def _counted(vector: list[int]) -> str:
    return f"{vector.count(1)}+ {vector.count(-1)}−"
