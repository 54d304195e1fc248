"""The second reading of a corpus: pieces of text with their split, from any place on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.data.segments import Reading, Segment, segments
from training.data.sources import Source
from training.data.splitting import DUPLICATE, Plan, cut_place

_REACH = 4096
"""Bytes within which a line end is looked for where a text is cut."""


@dataclass(frozen=True)
class Place:
    """How far a reading has come.

    Args:
        source: the file.
        segment: how many of its pieces are behind.
        document: how many documents are behind, of all files.
        kept: bytes of text that are kept and behind.
    """

    source: int = 0
    segment: int = 0
    document: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Piece:
    """A piece of text that is kept.

    Args:
        text: UTF-8.
        split: the number of its split.
        first: whether a document begins with it; one does too where the split is another one than
            before.
        after: how far the reading has come with it; None where more of the same segment follows.
    """

    text: bytes
    split: int
    first: bool
    after: Place | None


def pieces(
    sources: Sequence[Source],
    reading: Reading,
    decisions: NDArray[np.uint8],
    plan: Plan,
    start: Place,
) -> Iterator[Piece]:
    """What is kept of a corpus, in its order.

    Args:
        sources: the files.
        reading: how they are read.
        decisions: [D], of each document.
        plan: what `decisions` came with.
        start: where to begin, as an earlier piece's `after` said.
    """
    place = start
    reach = _REACH if plan.cuts is None else min(_REACH, _smallest(plan) // 4)
    for number in range(start.source, len(sources)):
        for count, segment in enumerate(segments(sources[number], reading)):
            if number == start.source and count < start.segment:
                continue
            decision = int(decisions[place.document])
            after = Place(number, count + 1, place.document + segment.last, place.kept)
            if decision < DUPLICATE:
                after = replace(after, kept=place.kept + len(segment.text))
                if plan.cuts is None:
                    yield Piece(segment.text, decision, segment.first, after)
                else:
                    yield from _cut(segment, place.kept, plan.cuts, reach, after)
            place = after


def _smallest(plan: Plan) -> int:
    assert plan.cuts is not None
    first, second = plan.cuts
    return min(first, second - first, plan.size - second)


def _cut(
    segment: Segment, kept: int, cuts: tuple[int, int], reach: int, after: Place
) -> Iterator[Piece]:
    """The pieces of a segment, of which each cut begins a new one."""
    text = segment.text
    begin = 0
    split = sum(kept >= cut for cut in cuts)
    while split < len(cuts) and cuts[split] - kept < len(text):
        place = max(begin, cut_place(text, cuts[split] - kept, reach))
        if place > begin:
            yield Piece(text[begin:place], split, segment.first and begin == 0, None)
        begin = place
        split += 1
    yield Piece(text[begin:], split, segment.first and begin == 0, after)
