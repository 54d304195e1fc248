"""Which split each document belongs to, and which are there twice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError

SPLITS = ("train", "validation", "test")
DUPLICATE = 3
EMPTY = 4
_AT_ONCE = 1 << 21
"""Documents whose digests are sorted together."""
_LEAST = 16
"""Bytes of the smallest split at the least."""


@dataclass(frozen=True)
class Shares:
    """How much of a corpus each split gets.

    Args:
        values: of training, validation and test, above 0; only their proportions count.

    Raises:
        UsageError: for others.
    """

    values: tuple[float, float, float] = (90.0, 5.0, 5.0)

    def __post_init__(self) -> None:
        if not all(0 < value < float("inf") for value in self.values):
            raise UsageError(
                f"--split {' '.join(f'{value:g}' for value in self.values)}.",
                "Training, validation and test each get a share, and need some of it.",
                "Write three numbers above 0, such as --split 90 5 5.",
            )

    @property
    def cuts(self) -> tuple[float, float]:
        """Where training and validation end, from 0 to 1."""
        whole = sum(self.values)
        return self.values[0] / whole, (self.values[0] + self.values[1]) / whole

    def of_digest(self, digest: bytes) -> int:
        """The split of a document by its digest."""
        where = int.from_bytes(digest[8:16], "little") / 2**64
        return sum(where >= cut for cut in self.cuts)

    def of_digests(self, second: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """The same of many digests [M], by their second halves."""
        where = second.astype(np.float64) / 2.0**64
        first_cut, second_cut = self.cuts
        return (where >= first_cut).astype(np.uint8) + (where >= second_cut).astype(np.uint8)


@dataclass(frozen=True)
class Plan:
    """What becomes of the documents.

    Args:
        cuts: None where documents are split whole, by their digests; else the bytes at which
            training and validation end, of all that is kept, one after the other.
        duplicates: documents that are there already.
        empty: documents without a byte.
        size: bytes of text that are kept.
    """

    cuts: tuple[int, int] | None
    duplicates: int
    empty: int
    size: int


def plan(records: NDArray[np.void], shares: Shares, decisions: Path) -> Plan:
    """Decides of each document.

    Documents go to a split by a hash of their content, so that equal ones never cross, and each
    keeps its split when others are added. Where that leaves a split without a document, or with
    less than a quarter of its share, as in a corpus of few files, the texts are cut instead, one
    after the other, in these shares.

    Args:
        records: [D] `scan.RECORD`, of each document, on disk.
        shares: of the splits.
        decisions: file to write [D] uint8 to: a split's number, `DUPLICATE` or `EMPTY`.

    Raises:
        UsageError: where there is too little text.
    """
    number = len(records)
    found = np.memmap(decisions, np.uint8, "w+", shape=(max(1, number),))
    parts = 1 << max(0, (max(1, number - 1) // _AT_ONCE).bit_length())
    for start in range(0, number, _AT_ONCE):
        some = records[start : start + _AT_ONCE]
        split = shares.of_digests(some["digest"][:, 1])
        found[start : start + _AT_ONCE] = np.where(some["size"] == 0, EMPTY, split)
    for part in range(parts):
        _mark_duplicates(records, found, part, parts)
    counts = np.zeros(EMPTY + 1, dtype=np.int64)
    sizes = np.zeros(EMPTY + 1, dtype=np.int64)
    for start in range(0, number, _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        length = records[start : start + _AT_ONCE]["size"][: len(some)]
        counts += np.bincount(some, minlength=EMPTY + 1)
        sizes += np.bincount(some, weights=length, minlength=EMPTY + 1).astype(np.int64)
    found.flush()
    kept = int(sizes[:DUPLICATE].sum())
    whole = sum(shares.values)
    least = min(shares.values) / whole
    if kept * least < _LEAST:
        raise UsageError(
            f"The corpus holds {kept} bytes of text.",
            f"The smallest split gets {least:.2g} of them, and needs {_LEAST}.",
            "Write a corpus with more text, or other shares, such as --split 80 10 10.",
        )
    wanted = [kept * share / whole / 4 for share in shares.values]
    in_whole = all(counts[:3]) and all(a >= b for a, b in zip(sizes, wanted, strict=False))
    first, second = shares.cuts
    cuts = None if in_whole else (int(kept * first), int(kept * second))
    return Plan(cuts, int(counts[DUPLICATE]), int(counts[EMPTY]), kept)


def _mark_duplicates(
    records: NDArray[np.void], found: NDArray[np.uint8], part: int, parts: int
) -> None:
    """Marks all but the first of equal documents, of those whose digests fall into a part."""
    numbers: list[NDArray[np.int64]] = []
    halves: list[NDArray[np.uint64]] = []
    for start in range(0, len(records), _AT_ONCE):
        digests = records[start : start + _AT_ONCE]["digest"]
        chosen = np.flatnonzero(digests[:, 0] % np.uint64(parts) == part)
        numbers.append(chosen + start)
        halves.append(np.ascontiguousarray(digests[chosen]))
    number = np.concatenate(numbers or [np.zeros(0, np.int64)])
    digest = np.concatenate(halves or [np.zeros((0, 2), np.uint64)])
    order = np.lexsort((number, digest[:, 1], digest[:, 0]))
    same = (digest[order[1:]] == digest[order[:-1]]).all(1)
    again = number[order[1:][same]]
    found[again[found[again] != EMPTY]] = DUPLICATE


def cut_place(text: bytes, at: int, reach: int) -> int:
    """Where a text is cut that is to be cut at a byte: after the next line end if one lies within
    reach, else before the next character that begins."""
    line = text.find(b"\n", at, at + reach)
    if line >= 0:
        return line + 1
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return at
