"""Attention cut at the bounds of documents: packed rows laid out segment by segment, and back."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from act.layers.dot_product import dot_product
from act.segments import SegmentLayout


def attend_segments(
    queries: Float[Tensor, "P H Dh"],
    keys: Float[Tensor, "K Hkv Dh"],
    values: Float[Tensor, "K Hkv Dh"],
    layout: SegmentLayout,
) -> Float[Tensor, "P H Dh"]:
    """What queries that are laid out by segments read, group by group."""
    groups = layout.groups
    of_queries = [group.rows * group.queries for group in groups]
    of_keys = [group.rows * group.keys for group in groups]
    parts = zip(
        queries.split(of_queries), keys.split(of_keys), values.split(of_keys), groups, strict=True
    )
    made = [
        dot_product(
            asked.unflatten(0, (group.rows, group.queries)),
            read.unflatten(0, (group.rows, group.keys)),
            said.unflatten(0, (group.rows, group.keys)),
            group.mask,
            group.mask is None,
        )
        for asked, read, said, group in parts
    ]
    return torch.cat([each.flatten(0, 1) for each in made])


def lay_queries(queries: Float[Tensor, "A H Dh"], layout: SegmentLayout) -> Tensor:
    """[P H Dh]. A blank place repeats a query of its segment, which nobody takes back."""
    return _Lay.apply(queries, layout.query_source, layout.query_place, None)  # pyright: ignore[reportReturnType]


def lay_keys(rows: Float[Tensor, "places Hkv Dh"], layout: SegmentLayout) -> Tensor:
    """[K Hkv Dh], keys or values. A blank place repeats a key of its segment, which no query that
    is taken back sees."""
    return _Lay.apply(rows, layout.key_source, layout.key_place, layout.read)  # pyright: ignore[reportReturnType]


def take_back(laid: Float[Tensor, "P H Dh"], layout: SegmentLayout) -> Tensor:
    """Packed [A H Dh] of what was read for each place."""
    return _Take.apply(laid, layout.query_source, layout.query_place, layout.query_blank)  # pyright: ignore[reportReturnType]


class _Lay(torch.autograd.Function):
    """Rows by the place that each comes from. Blank places have no gradient, so that there is
    nothing to add up on the way back: a selection again."""

    @staticmethod
    def forward(rows: Tensor, source: Tensor, place: Tensor, read: Tensor | None) -> Tensor:
        return rows.index_select(0, source)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, _, ctx.place, ctx.read = inputs
        ctx.rows = len(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.index_select(0, ctx.place)
        if ctx.read is not None:
            blank = gradient.new_zeros(ctx.rows, *gradient.shape[1:])
            gradient = blank.index_copy_(0, ctx.read, gradient)
        return gradient, None, None, None


class _Take(torch.autograd.Function):
    """Rows by the place where each lies."""

    @staticmethod
    def forward(laid: Tensor, source: Tensor, place: Tensor, blank: Tensor) -> Tensor:
        return laid.index_select(0, place)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.source, _, ctx.blank = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient.index_select(0, ctx.source).index_fill(0, ctx.blank, 0), None, None, None
