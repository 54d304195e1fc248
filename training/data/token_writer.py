"""Token files while they are written: any place up to which they are safe can be gone on from."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from training.data.splitting import SPLITS

TOKENS = "{split}.tokens"
STARTS = "{split}.starts"
BYTES = "{split}.bytes"
FILES = {"tokens": TOKENS, "starts": STARTS, "bytes": BYTES}


@dataclass
class Counts:
    """What is written of a split.

    Args:
        documents: that have begun.
        ended: that have ended.
        tokens: with their marks.
        bytes: of text.
    """

    documents: int = 0
    ended: int = 0
    tokens: int = 0
    bytes: int = 0


class TokenWriter:
    """Writes for each split the tokens of its documents, one after the other, each after a mark;
    where each begins (uint64); and how many bytes of text each has (uint64).

    Args:
        folder: to write to.
        dtype: of a token.
        mark: the token before each document.
        state: what an earlier writer's `save` gave, to go on from there; None: from nothing.
    """

    def __init__(
        self, folder: Path, dtype: np.dtype[Any], mark: int, state: dict[str, Any] | None = None
    ):
        self.dtype = dtype
        self.mark = np.array([mark], dtype=dtype)
        self.counts = [Counts() for _ in SPLITS]
        self._open: int | None = None
        self._open_bytes = 0
        if state is not None:
            self.counts = [Counts(**each) for each in state["counts"]]
            self._open = state["open"]
            self._open_bytes = state["open_bytes"]
        self._files: list[dict[str, IO[bytes]]] = []
        for split, counts in zip(SPLITS, self.counts, strict=True):
            sizes = {
                "tokens": counts.tokens * dtype.itemsize,
                "starts": counts.documents * 8,
                "bytes": counts.ended * 8,
            }
            files: dict[str, IO[bytes]] = {}
            for name, form in FILES.items():
                path = folder / form.format(split=split)
                path.touch()
                file = open(path, "r+b")  # noqa: SIM115 (closed in close())
                file.truncate(sizes[name])
                file.seek(sizes[name])
                files[name] = file
            self._files.append(files)

    def add(self, split: int, first: bool, tokens: NDArray[Any], num_bytes: int) -> None:
        """A piece of a document. A new one begins where it says so, and in another split.

        Args:
            split: its number.
            first: whether a document begins with it.
            tokens: of the piece.
            num_bytes: of its text.
        """
        if not first and not num_bytes:
            return
        counts = self.counts[split]
        files = self._files[split]
        if first or split != self._open:
            self._end()
            files["starts"].write(np.array([counts.tokens], dtype="<u8").tobytes())
            files["tokens"].write(self.mark.tobytes())
            counts.documents += 1
            counts.tokens += 1
            self._open = split
        files["tokens"].write(tokens.astype(self.dtype, copy=False).tobytes())
        counts.tokens += len(tokens)
        counts.bytes += num_bytes
        self._open_bytes += num_bytes

    def _end(self) -> None:
        if self._open is None:
            return
        data = np.array([self._open_bytes], dtype="<u8").tobytes()
        self._files[self._open]["bytes"].write(data)
        self.counts[self._open].ended += 1
        self._open = None
        self._open_bytes = 0

    def save(self) -> dict[str, Any]:
        """Brings everything to the disk; gives what another writer goes on from."""
        for files in self._files:
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        return {
            "counts": [asdict(each) for each in self.counts],
            "open": self._open,
            "open_bytes": self._open_bytes,
        }

    def close(self, whole: bool = False) -> None:
        """Closes the files.

        Args:
            whole: nothing follows: the last document ends, and the end of the tokens is written
                after where each document begins.
        """
        if whole:
            self._end()
            for counts, files in zip(self.counts, self._files, strict=True):
                files["starts"].write(np.array([counts.tokens], dtype="<u8").tobytes())
            self.save()
        for files in self._files:
            for file in files.values():
                file.close()


def smallest_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds a vocabulary's tokens, little-endian."""
    for name in ("<u1", "<u2"):
        dtype = np.dtype(name)
        if vocab_size - 1 <= np.iinfo(dtype).max:
            return dtype
    return np.dtype("<u4")
