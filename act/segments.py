"""Documents that share the rows of a batch, as stretches of places: what attention is cut at."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

CALL = 2048
"""What one more call of attention costs, in scores: products of a query and a key."""
COPY = 16
"""What one more token costs that is laid out and back, in scores."""
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
        read: [R] int64, which of the B*S keys are seen by anybody; None for all.
        key_place: [R] int64, where each of these lies.
    """

    groups: tuple[SegmentGroup, ...]
    query_place: Int[Tensor, " A"]
    read: Int[Tensor, " R"] | None
    key_place: Int[Tensor, " R"]

    def lay_queries(self, values: Tensor) -> Tensor:
        """[A ...] to [P ...], zeros where no query is."""
        places = sum(group.rows * group.queries for group in self.groups)
        blank = values.new_zeros(places, *values.shape[1:])
        return blank.index_copy(0, self.query_place, values)

    def lay_keys(self, values: Tensor) -> Tensor:
        """[B*S ...] to [K ...], zeros where no key is."""
        places = sum(group.rows * group.keys for group in self.groups)
        blank = values.new_zeros(places, *values.shape[1:])
        read = values if self.read is None else values.index_select(0, self.read)
        return blank.index_copy(0, self.key_place, read)

    def queries_of_groups(self, laid: Tensor) -> list[Tensor]:
        """[P ...] to [G Q ...] of each group."""
        sizes = [group.rows * group.queries for group in self.groups]
        parts = zip(laid.split(sizes), self.groups, strict=True)
        return [part.unflatten(0, (group.rows, group.queries)) for part, group in parts]

    def keys_of_groups(self, laid: Tensor) -> list[Tensor]:
        """[K ...] to [G W ...] of each group."""
        sizes = [group.rows * group.keys for group in self.groups]
        parts = zip(laid.split(sizes), self.groups, strict=True)
        return [part.unflatten(0, (group.rows, group.keys)) for part, group in parts]

    def take(self, laid: Tensor) -> Tensor:
        """[P ...] to packed [A ...]."""
        return laid.index_select(0, self.query_place)


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
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self, documents: Int[Tensor, "B S"]):
        self.documents = documents
        self._whole: dict[bool, SegmentLayout | None] = {}
        self._masks: dict[bool, Tensor] = {}

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
        scores = int((rows * queries * keys).sum()) + CALL * len(rows)
        batch, capacity = self.documents.shape
        if scores + COPY * (len(number) + len(key_number)) >= batch * width * capacity:
            return None
        of_queries = _begins(order, which, rows, queries, len(counts))
        of_keys = _begins(order, which, rows, keys, len(counts))
        column = torch.arange(len(number), device=number.device)
        column = column - (counts.cumsum(0) - counts)[number]  # [A], in its segment's queries
        query_place = of_queries[number] + column
        at = torch.arange(len(self.number), device=number.device) if read is None else read
        key_place = of_keys[key_number] + at - self.start[key_number]
        sizes = list(zip(rows.tolist(), queries.tolist(), keys.tolist(), strict=True))
        masks: list[Tensor | None] = [None] * len(sizes)
        if not causal or places is not None or visible is not None:
            own = torch.arange(len(self.number), device=number.device) if places is None else places
            last = own - self.start[number] if causal else self.length[number] - 1  # [A]
            shown = None if visible is None else visible.flatten()[at]  # [R]
            masks = _masks(sizes, query_place, last, key_place, shown)
        groups = tuple(
            SegmentGroup(*size, mask) for size, mask in zip(sizes, masks, strict=True)
        )
        return SegmentLayout(groups, query_place, read, key_place)


def see_something(mask: Bool[Tensor, "*queries S"]) -> Bool[Tensor, "*queries S"]:
    """A query that sees nothing (a column of padding, an idle slot) would divide by zero: it sees
    everything, which is finite, and what it says is dropped."""
    return mask | ~mask.any(-1, keepdim=True)


def _most(values: Tensor, which: Tensor, rows: Tensor) -> Tensor:
    """The largest of each group."""
    return torch.zeros_like(rows).scatter_reduce_(0, which, values, "amax")


def _begins(order: Tensor, which: Tensor, rows: Tensor, width: Tensor, segments: int) -> Tensor:
    """Where each segment's row begins, of those that have one."""
    sizes = rows * width
    first = rows.cumsum(0) - rows
    rank = torch.arange(len(order), device=order.device) - first[which]
    begins = (sizes.cumsum(0) - sizes)[which] + rank * width[which]
    return order.new_zeros(segments).index_copy_(0, order, begins)


def _masks(
    sizes: list[tuple[int, int, int]],
    query_place: Tensor,
    last: Tensor,
    key_place: Tensor,
    shown: Tensor | None,
) -> list[Tensor | None]:
    """[G 1 Q W] of each group: the columns up to the last one that a query sees, of those that are
    shown."""
    reach = last.new_zeros(sum(rows * queries for rows, queries, _ in sizes))
    reach.index_copy_(0, query_place, last)
    seen = None
    if shown is not None:
        seen = shown.new_zeros(sum(rows * keys for rows, _, keys in sizes))
        seen.index_copy_(0, key_place, shown)
    masks: list[Tensor | None] = []
    query = 0
    key = 0
    for rows, queries, keys in sizes:
        columns = torch.arange(keys, device=last.device)
        own = reach[query : query + rows * queries].view(rows, 1, queries, 1)
        mask = columns <= own
        if seen is not None:
            mask = mask & seen[key : key + rows * keys].view(rows, 1, 1, keys)
        masks.append(see_something(mask))
        query += rows * queries
        key += rows * keys
    return masks
