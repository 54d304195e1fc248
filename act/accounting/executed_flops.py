"""Floating-point operations that a batch really costs: those of the steps its tokens took, and of
padding beside."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from act.accounting.flops import kept_flops, part_flops, rule_flops
from act.loop.backprop import Checkpointed
from act.models.looped_transformer import LoopedTransformer
from halting.trace import LoopTrace


def computed_flops(model: LoopedTransformer, trace: LoopTrace, packs: bool, training: bool) -> int:
    """FLOPs of a whole batch, worked out from the steps that its tokens took.

    `Flops` counts what a token's steps cost; this counts what the path computes for them:

    - packed: A_n tokens at step n, but B·Q_n queries of attention, Q_n the most active tokens of
      any row (`PaddedLayout`);
    - dense: all B·L positions at every step;
    - embedding and head on all positions, prelude and coda on the valid tokens, their queries
      padded as above;
    - a readout that trains every step: the head on every executed step, a coda at each step on all
      valid tokens.

    The backward pass is taken to cost twice the forward one, but for the embedding of vectors,
    which want no gradient, and for the last answers where each step is trained instead. That is too
    much where gradients do not go back through
    everything: truncated backprop, frozen weights.

    Args:
        model: which ran.
        trace: the record of the loop.
        packs: whether it took the packed path.
        training: count the backward pass too.
    """
    recurrence, (batch, length) = model.recurrence, trace.valid.shape
    positions = batch * length
    tokens = int(trace.valid.sum())
    active = int(trace.steps.sum())
    width_of_all = int(trace.valid.sum(-1).max()) if positions else 0
    widths = trace.ran.sum(1).amax(0) if packs else torch.full((trace.num_steps,), length)
    rows = active if packs else positions * trace.num_steps
    queries = batch * int(widths.sum())

    def flops(part: nn.Module, rows: int, queries: int) -> int:
        return part_flops(part) * rows + (part_flops(part, length) - part_flops(part)) * queries

    embedding = part_flops(model.embedding) * positions
    head = part_flops(model.head)
    coda = flops(model.coda, tokens, batch * width_of_all)
    forward = (
        embedding + flops(model.prelude, tokens, batch * width_of_all) + coda + head * positions
    )
    forward += flops(recurrence.block, rows, queries) + rule_flops(model) * active
    if not training:
        return forward
    backward = 2 * forward - embedding
    if recurrence.readout.keeps_states:
        answers = head * active + coda * trace.num_steps
        forward = forward + answers
        backward = backward + 2 * (answers - coda - head * positions)
    if isinstance(recurrence.backprop, Checkpointed):
        backward += flops(recurrence.block, rows, queries) - kept_flops(recurrence.block) * rows
    return forward + backward


def flops_by_torch(compute: Callable[[], Any]) -> int:
    """FLOPs that torch's FlopCounterMode counts while something runs, with the fused attention of
    CPUs, which it does not know of itself; the backward pass of that as twice the forward one,
    without what the kernel computes again."""
    aten = torch.ops.aten
    known = {
        aten._scaled_dot_product_flash_attention_for_cpu: _fused,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_backward,
    }
    counter = FlopCounterMode(display=False, custom_mapping=known)
    with counter:
        compute()
    return counter.get_total_flops()


def mean_steps(trace: LoopTrace) -> float:
    """Executed steps a token."""
    steps: Tensor = trace.steps.sum() / trace.valid.sum()
    return float(steps)


def _fused(queries: torch.Size, keys: torch.Size, *others: Any, **named: Any) -> int:
    return 4 * queries.numel() * keys[-2]


def _fused_backward(
    gradient: torch.Size, queries: torch.Size, keys: torch.Size, *others: Any, **named: Any
) -> int:
    return 2 * _fused(queries, keys)
