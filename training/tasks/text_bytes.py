"""Next-byte prediction over real text."""

from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from halting.errors import UsageError
from training.tasks.corpus import Corpus, Errors, read_corpus
from training.tasks.data_identity import DataIdentity
from training.tasks.draws import Draws
from training.tasks.kept_data import KeptData
from training.tasks.options import require_at_least
from training.tasks.task import Batch, Task

_SHOWN = {*range(0x20, 0x7F), ord("\n"), ord("\t")}


class TextBytes(Task):
    """The answer at each position is the byte that comes next. Its difficulty is not known (NaN).

    An example is a window at a random place of its split; windows may run over the end of one file
    into the next. The corpus is read once, when the task is made (of a run that is read back, when
    the first example is asked for), and kept in memory. A byte order mark is read over; line ends
    stay as they are.

    Args:
        text: a text file, or a folder whose texts are read; None: the source of Python's own
            standard library, its tests left out.
        length: L, bytes that the model reads.
        errors: what becomes of bytes that are not UTF-8, and of NULs: strict refuses a file that
            has some, and leaves it out of a folder; replace reads U+FFFD instead; skip drops them.
        digest: how a run knows its corpus again: by the whole content of files up to 64 MiB and
            samples of larger ones (sampled), or by all of it (full).
        seed: of the choice of windows.
        kept_data: of the run that is read back; its corpus has to be the same.

    Raises:
        UsageError: for a length below 2, and for a text that is missing, cannot be read, is no text
            or too short.
    """

    vocab_size = 256
    causal = True

    path_options = ("text",)

    def __init__(
        self,
        text: str | None = None,
        length: int = 128,
        errors: Errors = "strict",
        digest: Literal["sampled", "full"] = "sampled",
        seed: int = 0,
        kept_data: KeptData | None = None,
    ):
        require_at_least(2, "length", length, "With less there is no context to predict from.")
        self.text = text
        self.length = length
        self.errors: Errors = errors
        self.digest = digest
        self.seed = seed
        self.max_length = length
        self.kept_data = kept_data
        if kept_data is None:
            _ = self._read  # what cannot be read is refused at once

    @property
    def corpus(self) -> dict[str, NDArray[np.uint8]]:
        """The bytes of each split."""
        return self._read.splits

    def identity(self) -> DataIdentity:
        return self._read.identity

    def says(self) -> str:
        return self._read.says

    def warnings(self) -> tuple[str, ...]:
        return self._read.warnings

    @cached_property
    def _read(self) -> Corpus:
        corpus = read_corpus(self.text, self.length + 1, self.errors, self.digest == "full")
        if self.kept_data is not None:
            self.kept_data.check(corpus.identity)
        return corpus

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
