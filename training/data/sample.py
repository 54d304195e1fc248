"""A bounded, seeded sample of a corpus that streams by."""

import hashlib
import heapq

from training.data.segments import Segment

SAMPLE = 1 << 25
"""Bytes that a vocabulary is learned from, 32 MiB."""


class Sample:
    """The pieces of text with the least hashes, as many as fit: the same in whatever order they
    come, and equal ones count once.

    Args:
        size: bytes.
        seed: of the hashes.
    """

    def __init__(self, size: int = SAMPLE, seed: int = 0):
        self.size = size
        self._key = seed.to_bytes(8, "big")
        self._held = 0
        self._heap: list[tuple[int, bytes]] = []
        self._there: set[int] = set()

    def add(self, segment: Segment) -> None:
        """Another one."""
        text = segment.text
        found = hashlib.blake2b(text, digest_size=8, key=self._key).digest()
        rank = int.from_bytes(found, "big")
        full = self._held >= self.size
        if not text or rank in self._there or (full and rank > -self._heap[0][0]):
            return
        heapq.heappush(self._heap, (-rank, text))
        self._there.add(rank)
        self._held += len(text)
        while self._held - len(self._heap[0][1]) >= self.size:
            worst, dropped = heapq.heappop(self._heap)
            self._there.remove(-worst)
            self._held -= len(dropped)

    def take(self) -> list[str]:
        """The texts, in the order of their hashes; the sample is empty after that."""
        self._heap.sort(reverse=True)
        texts = [text.decode() for _, text in self._heap]
        self._heap.clear()
        self._there.clear()
        self._held = 0
        return texts
