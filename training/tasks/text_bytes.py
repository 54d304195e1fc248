"""Next-byte prediction over real text."""

import numpy as np
import torch

from halting.errors import UsageError
from training.tasks.corpus import read_corpus
from training.tasks.draws import Draws
from training.tasks.options import require_at_least
from training.tasks.task import Batch, Task

_SHOWN = {*range(0x20, 0x7F), ord("\n"), ord("\t")}


class TextBytes(Task):
    """The answer at each position is the byte that comes next. Its difficulty is not known (NaN).

    An example is a window at a random place of its split; windows may run over the end of one file
    into the next. The corpus is read once, when the task is made, and kept in memory.

    Args:
        text: a text file, or a folder whose texts are read; None: the source of Python's own
            standard library, its tests left out.
        length: L, bytes that the model reads.
        seed: of the choice of windows.

    Raises:
        UsageError: for a length below 2, and for a text that is missing, cannot be read, is no text
            or too short.
    """

    vocab_size = 256
    causal = True

    def __init__(self, text: str | None = None, length: int = 128, seed: int = 0):
        require_at_least(2, "length", length, "With less there is no context to predict from.")
        self.length = length
        self.seed = seed
        self.max_length = length
        self.corpus = read_corpus(text, least=length + 1)

    def batch(self, split: str, index: int, size: int) -> Batch:
        draws = Draws(self.seed, split, index, size)
        data = self.corpus[split]
        starts = draws.integers(len(data) - self.length, 1)
        windows = torch.from_numpy(data[starts + np.arange(self.length + 1)].astype(np.int64))
        return Batch(
            windows[:, :-1].contiguous(),
            windows[:, 1:].contiguous(),
            torch.ones(size, self.length, dtype=torch.bool),
            torch.full((size, self.length), torch.nan),
        )

    def encode(self, text: str) -> list[int]:
        """The bytes of a text in UTF-8; bytes of a command line that are no UTF-8 pass through as
        they are.

        Raises:
            UsageError: for half of a surrogate pair, which has no bytes.
        """
        try:
            return list(text.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The text holds {text[error.start]!r} at place {error.start}.",
                "It is half of a surrogate pair, which UTF-8 cannot write.",
                "Drop it, or write the whole character.",
            ) from None

    def decode(self, tokens: list[int]) -> list[str]:
        r"""Printable ASCII, newline and tab as they are; other bytes as \xNN."""
        return [chr(token) if token in _SHOWN else f"\\x{token:02x}" for token in tokens]
