"""Documents that share the rows of a batch, as stretches of places: what attention is cut at."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_CALL = 4096
_QUERY = 100
_COPY = 34
"""What one more call of attention costs, one more query, and one more token that is laid out and
back: in scores (products of one query and one key), forward and backward. Measured with heads of 32
numbers on one x86-64 core; 2026-12-01."""
_SHORT = 32
_GROWTH = 4 / 3
_STEPS = 40


@dataclass(frozen=True)
class SegmentGroup:
    """Segments of similar length as a rectangle, whatever they are shorter by left blank.

    Args:
        rows: G, segments.
        queries: Q, the most queries of any.
        keys: W, the longest.
        mask: [G 1 Q W] bool, True where a query may look; None where each looks at the keys up to
            its own column.
    """

    rows: int
    queries: int
    keys: int
    mask: Bool[Tensor, "G 1 Q W"] | None


@dataclass(frozen=True)
class SegmentLayout:
    """Packed queries, and the keys that they see, laid out group by group, end to end: P places of
    queries and K of keys.

    Args:
        groups: the rectangles.
        query_place: [A] int64, where each query lies.
        query_source: [P] int64, which query lies at each place; at blank places any of the segment.
        query_blank: int64, the places where none lies.
        read: [R] int64, which of the B*S keys are seen by anybody; None for all.
        key_place: [R] int64, where each of these lies.
        key_source: [K] int64, which of the B*S keys lies at each place; at blank places any of the
            segment.
    """

    groups: tuple[SegmentGroup, ...]
    query_place: Int[Tensor, " A"]
    query_source: Int[Tensor, " P"]
    query_blank: Int[Tensor, " blank"]
    read: Int[Tensor, " R"] | None
    key_place: Int[Tensor, " R"]
    key_source: Int[Tensor, " K"]


class Segments:
    """Documents of packed rows. A row of several is block-diagonal to attention, so that there is
    less to attend to than in a row of one: each document is laid out as a row of its own, beside
    others of similar length, and the triangle of a causal row is kept.

    Made once a forward pass. What is cut is worked out at the first call that asks, by looking at
    the numbers, which costs nothing on a CPU alone.

    Args:
        documents: [B S] whole numbers, the document of each position.

    Attributes:
        devices: kinds of device where attention is cut; elsewhere it gets a mask.
        always: it is cut whether that is cheaper or not, for whoever compares.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    always: ClassVar[bool] = False

    def __init__(self, documents: Int[Tensor, "B S"]):
        self.documents = documents
        self._version = _version(documents)
        self._whole: dict[bool, SegmentLayout | None] = {}
        self._masks: dict[bool, Tensor] = {}

    @property
    def current(self) -> bool:
        """Whether nobody is known to have written to the numbers since."""
        return self._version is not None and self._version == _version(self.documents)

    @cached_property
    def number(self) -> Int[Tensor, " places"]:
        """Which segment each place belongs to, counted from 0 through the batch."""
        begins = torch.ones_like(self.documents, dtype=torch.bool)
        begins[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]
        return begins.flatten().cumsum(0) - 1

    @cached_property
    def length(self) -> Int[Tensor, " n"]:
        """Of each segment."""
        return self.number.bincount()

    @cached_property
    def start(self) -> Int[Tensor, " n"]:
        """The place where each begins."""
        return self.length.cumsum(0) - self.length

    @property
    def one_a_row(self) -> bool:
        """Whether no row has more than one document, so that there are no bounds."""
        return len(self.length) == len(self.documents)

    @cached_property
    def contiguous(self) -> bool:
        """Whether each document is one stretch of its row."""
        ordered = self.documents.sort(dim=1).values
        different = int((ordered[:, 1:] != ordered[:, :-1]).sum()) + len(ordered)
        return different == len(self.length)

    @cached_property
    def order(self) -> Int[Tensor, " n"]:
        """The segments by group."""
        return self.group.argsort(stable=True)

    @cached_property
    def group(self) -> Int[Tensor, " n"]:
        """Which group each segment is laid out with: those of a group differ in length by a quarter
        at the most, or have 32 places at the most."""
        most = [math.floor(_SHORT * _GROWTH**step) for step in range(_STEPS)]
        return torch.bucketize(self.length, self.length.new_tensor(most))

    def mask(self, causal: bool) -> Bool[Tensor, "B 1 S S"]:
        """Which positions each position of the full rectangle sees, worked out once."""
        if causal not in self._masks:
            seen = self.documents[:, None, :, None] == self.documents[:, None, None]
            self._masks[causal] = seen.tril() if causal else seen
        return self._masks[causal]

    def whole(self, causal: bool) -> SegmentLayout | None:
        """The layout where every place of the batch is a query and a key, worked out once; None
        where a mask is cheaper."""
        if causal not in self._whole:
            self._whole[causal] = self.layout(None, self.documents.shape[1], None, causal)
        return self._whole[causal]

    def layout(
        self,
        places: Int[Tensor, " A"] | None,
        width: int,
        visible: Bool[Tensor, "B S"] | None,
        causal: bool,
    ) -> SegmentLayout | None:
        """How some queries are laid out, with the keys of their documents; None where one rectangle
        under a mask is cheaper, or a document is no single stretch.

        Args:
            places: of the queries in the B*S, ascending; None: all of them.
            width: of the one rectangle: the most queries of any row.
            visible: the positions that hold a token; None when all do.
            causal: a query sees positions up to its own.
        """
        if not self.contiguous:
            return None
        number = self.number if places is None else self.number[places]  # [A]
        counts = number.bincount(minlength=len(self.length))  # [n]
        order = self.order[counts[self.order] > 0]  # those with a query
        _, which, rows = self.group[order].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        queries = _most(counts[order], which, rows)
        keys = _most(self.length[order], which, rows)
        read = None if len(order) == len(counts) else (counts > 0)[self.number].nonzero().squeeze(1)
        key_number = self.number if read is None else self.number[read]  # [R]
        batch, capacity = self.documents.shape
        cut = int((rows * queries * (keys + _QUERY)).sum()) + _CALL * len(rows)
        cut += _COPY * (len(number) + len(key_number))
        if not self.always and cut >= batch * width * (capacity + _QUERY) + _CALL:
            return None
        sizes = list(zip(rows.tolist(), queries.tolist(), keys.tolist(), strict=True))
        # Where each segment's queries begin among the queries, and its keys among all B*S.
        first = counts.cumsum(0) - counts  # [n]
        query_source, query_row = _rectangles(rows, queries, first[order], counts[order])
        key_source, key_row = _rectangles(rows, keys, self.start[order], self.length[order])
        # A segment's row begins before its first column.
        query_place = _places(query_row, order, first, number)
        key_place = _places(key_row, order, self.start, key_number, read)
        masks: list[Tensor | None] = [None] * len(sizes)
        if not causal or places is not None or visible is not None:
            own = query_source if places is None else places[query_source]  # [P], of the B*S
            segment = self.number[own]
            last = own - self.start[segment] if causal else self.length[segment] - 1
            shown = None if visible is None else visible.flatten()[key_source]  # [K]
            masks = _masks(sizes, last, shown)
        return SegmentLayout(
            groups=tuple(
                SegmentGroup(*size, mask) for size, mask in zip(sizes, masks, strict=True)
            ),
            query_place=query_place,
            query_source=query_source,
            query_blank=_blank(query_place, len(query_source)),
            read=read,
            key_place=key_place,
            key_source=key_source,
        )


def see_something(mask: Bool[Tensor, "*queries S"]) -> Bool[Tensor, "*queries S"]:
    """A query that sees nothing (a column of padding, an idle slot) would divide by zero: it sees
    everything, which is finite, and what it says is dropped."""
    return mask | ~mask.any(-1, keepdim=True)


def _version(documents: Tensor) -> int | None:
    """How often they were written to; tensors of inference mode don't count that."""
    return None if documents.is_inference() else documents._version


def _most(values: Tensor, which: Tensor, rows: Tensor) -> Tensor:
    """The largest of each group."""
    return torch.zeros_like(rows).scatter_reduce_(0, which, values, "amax")


def _rectangles(
    rows: Tensor, width: Tensor, first: Tensor, length: Tensor
) -> tuple[Tensor, Tensor]:
    """What lies at each place of the rectangles, blank places holding the last of their row; and
    the place where each row begins.

    Args:
        rows, width: of each rectangle.
        first, length: what lies in each row: so many, beginning with this one.
    """
    widths = width.repeat_interleave(rows)  # of each row
    begins = widths.cumsum(0) - widths
    row = torch.arange(len(widths), device=width.device).repeat_interleave(widths)  # of each place
    column = torch.arange(len(row), device=width.device) - begins[row]
    return first[row] + torch.minimum(column, length[row] - 1), begins


def _places(
    begins: Tensor, order: Tensor, first: Tensor, number: Tensor, read: Tensor | None = None
) -> Tensor:
    """Where each of those of the segments `number` lies.

    Args:
        begins: the place where the row of each segment of `order` begins.
        order: the segments that have a row.
        first: what each segment begins with.
        number: the segment of each.
        read: which each is; None: in order.
    """
    row = torch.zeros_like(first).index_copy_(0, order, begins)
    which = torch.arange(len(number), device=number.device) if read is None else read
    return (row - first)[number] + which


def _blank(place: Tensor, places: int) -> Tensor:
    """The places where nothing lies."""
    blank = torch.ones(places, dtype=torch.bool, device=place.device)
    return blank.index_fill_(0, place, False).nonzero().squeeze(1)


def _masks(
    sizes: list[tuple[int, int, int]], last: Tensor, shown: Tensor | None
) -> list[Tensor | None]:
    """[G 1 Q W] of each group: the columns up to the last one [P] that a query sees, of those keys
    [K] that are shown."""
    masks: list[Tensor | None] = []
    query = 0
    key = 0
    for rows, queries, keys in sizes:
        columns = torch.arange(keys, device=last.device)
        own = last[query : query + rows * queries].view(rows, 1, queries, 1)
        mask = columns <= own
        if shown is not None:
            mask = mask & shown[key : key + rows * keys].view(rows, 1, 1, keys)
        masks.append(see_something(mask))
        query += rows * queries
        key += rows * keys
    return masks
