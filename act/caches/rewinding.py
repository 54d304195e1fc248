"""A key-value cache for training that keeps one buffer a layer and rewinds it on the way back."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.autograd.function import once_differentiable

from act.caches.cache import KeyValueCache
from act.caches.kept import KeptRectangle, KeptSegments
from act.layers.attention import AttentionContext, attend_packed
from act.slots import Slots
from halting.errors import UsageError

_backward_pass: Callable[[], int] | None = getattr(torch._C, "_current_graph_task_id", None)
"""The number of the backward pass that is running, by which `torch.utils.checkpoint` tells passes
apart, too. It is private to PyTorch: where it is missing, the loop takes `FunctionalCache`
(tests/act/test_private_torch.py names the version that it was seen in)."""

Rows = tuple[Tensor, Tensor]
"""Keys and values [rows Hkv Dh]."""


class RewindingCache(KeyValueCache):
    """One buffer a layer, written in place: each step keeps its own packed keys and values and no
    copy of the buffer. So what is saved for backward follows the active tokens. The reference is
    `FunctionalCache`.

    The backward pass meets the steps in reverse. Before step n's gradient is computed, the rows
    that step n wrote are written again: then the buffer is what it was after step n, for rows of
    tokens that had left earlier were never overwritten, and rows of those that stayed are now step
    n's. The gradient of a frozen row is summed over all steps that read it, and handed to the step
    that wrote it. A graph that is gone through a second time starts from its last step again: the
    buffer is wound forward first.

    Args:
        visible: [B S] bool, or None when every position holds a token.
        layers: what each layer holds, by its number.

    Raises:
        UsageError: for a PyTorch that it does not work with (`available`).
    """

    def __init__(
        self, visible: Bool[Tensor, "B S"] | None, layers: "dict[int, _Layer] | None" = None
    ):
        if not self.available():
            raise UsageError(
                f"RewindingCache does not work with PyTorch {torch.__version__}.",
                "It has to tell backward passes apart, and this version has no number for them.",
                "Use FunctionalCache, which gives the same gradients and keeps more memory.",
            )
        self.visible = visible
        self.layers: dict[int, _Layer] = layers or {}

    @staticmethod
    def available() -> bool:
        """Whether this PyTorch has what the cache stands on."""
        return _backward_pass is not None

    def attend(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        slots: Slots,
        context: AttentionContext,
    ) -> "tuple[Tensor, RewindingCache]":
        assert slots.computes is None, "for the packed path: idle slots write nothing"
        rows = self.layers.setdefault(layer, _Layer(None))
        if slots.full:
            # Every row is written: the graph of this step is autograd's own.
            rows.base = (keys, values)
            rectangle = (slots.batch, slots.length, *keys.shape[1:])
            given = (queries, keys.view(rectangle), values.view(rectangle))
            return attend_packed(*given, slots, context), self
        base = rows.base if rows.buffer is None and rows.base is not None else (None, None)
        attended = _Attend.apply(queries, keys, values, *base, rows, slots, context)
        assert isinstance(attended, Tensor)
        return attended, self

    def detach(self) -> "RewindingCache":
        """The same rows for steps of their own: gradients of later steps end here, and earlier
        steps rewind alone."""
        return RewindingCache(
            self.visible, {number: layer.cut() for number, layer in self.layers.items()}
        )


class _Layer:
    """The rows of one layer, and the gradient of those that later steps read.

    Args:
        base: the rows before the first step that does not write all of them; None for zeros.

    Attributes:
        buffer: the rows after step `now`, [B*S Hkv Dh]; made at that step.
        now: the last step written into the buffer, or the one that it was rewound to, counted from
            0.
        nodes: the autograd nodes of the steps, alive as long as their graph is.
    """

    def __init__(self, base: Rows | None) -> None:
        self.base = base
        self.now = -1
        self.buffer: Rows | None = None
        self.nodes: list[weakref.ref[Any]] = []
        self.gradients: Rows | None = None
        self.backward_pass = -1

    def cut(self) -> "_Layer":
        rows = self.buffer or self.base
        return _Layer(None if rows is None else (rows[0].detach(), rows[1].detach()))

    def write(self, keys: Tensor, values: Tensor, slots: Slots, node: Any) -> Rows:
        """The rows, with those of these slots written by a new step."""
        if self.buffer is None:
            shape = (slots.batch * slots.length, *keys.shape[1:])
            base = self.base or (keys.new_zeros(shape), values.new_zeros(shape))  # [B*S Hkv Dh]
            self.buffer = (base[0].clone(), base[1].clone())
            self.base = None
        self.now = len(self.nodes)
        self.nodes.append(weakref.ref(node))
        return self._overwrite(keys, values, slots)

    def _overwrite(self, keys: Tensor, values: Tensor, slots: Slots) -> Rows:
        assert self.buffer is not None
        for rows, new in zip(self.buffer, (keys, values), strict=True):
            rows.index_copy_(0, slots.index, new)
        return self.buffer

    def wind_to(self, step: int) -> None:
        """Makes the buffer what it was after a step."""
        for number in range(self.now + 1, step + 1) if self.now <= step else (step,):
            node = self.nodes[number]()
            assert node is not None, "the graph of a step holds those of all before it"
            _, keys, values = node.saved_tensors
            self._overwrite(keys, values, node.slots)
        self.now = step

    def collect(self, keys: Tensor, values: Tensor, slots: Slots) -> tuple[Rows, Rows]:
        """Takes in a step's gradient of all rows; gives that of the rows that the step wrote, and
        of earlier ones."""
        assert _backward_pass is not None
        this_pass = _backward_pass()
        if self.gradients is not None and self.backward_pass == this_pass:
            # What later steps read of the rows that they did not write, [B*S Hkv Dh].
            keys = self.gradients[0] + keys
            values = self.gradients[1] + values
        # [A Hkv Dh], for the step that wrote them: earlier steps wrote none of these rows.
        mine = (keys.index_select(0, slots.index), values.index_select(0, slots.index))
        keys = keys.index_fill_(0, slots.index, 0)
        values = values.index_fill_(0, slots.index, 0)
        self.gradients = (keys, values)
        self.backward_pass = this_pass
        return mine, self.gradients


class _Attend(torch.autograd.Function):
    """Writes keys and values into a layer's rows and attends over all of them.

    Attention has a graph of its own, whose rows share the buffer's memory but not its version: by
    the time that this graph is asked for gradients, the buffer has been rewound to what it was.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        base_keys: Tensor | None,
        base_values: Tensor | None,
        layer: _Layer,
        slots: Slots,
        context: AttentionContext,
    ) -> Tensor:
        rows = layer.write(keys, values, slots, ctx)
        ctx.layer = layer
        ctx.slots = slots
        ctx.step = layer.now
        ctx.based = base_keys is not None
        ctx.save_for_backward(queries, keys, values)
        with torch.enable_grad():
            # `.data`, not `.detach()`: later steps write into these rows, which autograd would
            # refuse if it shared their version.
            queries = queries.data.requires_grad_()  # [A H Dh]
            keys = rows[0].data.requires_grad_()  # [B*S Hkv Dh]
            values = rows[1].data.requires_grad_()  # [B*S Hkv Dh]
            ctx.inputs = (queries, keys, values)
            ctx.attended = _attended(queries, keys, values, slots, context)  # [A H Dh]
        return ctx.attended.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.layer.wind_to(ctx.step)
        queries, keys, values = torch.autograd.grad(
            ctx.attended, ctx.inputs, gradients, retain_graph=True
        )
        mine, before = ctx.layer.collect(keys, values, ctx.slots)
        return queries, *mine, *(before if ctx.based else (None, None)), None, None, None


def _attended(
    queries: Tensor, keys: Tensor, values: Tensor, slots: Slots, context: AttentionContext
) -> Tensor:
    """[A H Dh] from packed queries and the rows [B*S Hkv Dh]."""
    if context.segments is not None:
        return KeptSegments(context.segments, (queries, keys, values)).attend()
    if context.ragged is None:
        return KeptRectangle(slots, (queries, keys, values)).attend(context)
    shape = (slots.batch, slots.length, *keys.shape[1:])
    return context.ragged(queries, keys.view(shape), values.view(shape))
