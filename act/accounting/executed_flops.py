"""Floating-point operations that a batch really costs: those of the steps its tokens took, and of
padding beside."""

import torch
from torch import Tensor

from act.accounting.flops import block_flops, outside_flops, rule_flops
from act.loop.backprop import Checkpointed
from act.models.looped_model import LoopedModel
from halting.trace import LoopTrace


def computed_flops(model: LoopedModel, trace: LoopTrace, packs: bool, training: bool) -> int:
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

    def flops(alone: int, attending: int, rows: int, queries: int) -> int:
        return alone * rows + (attending - alone) * queries

    bare = outside_flops(model, 0, length)
    outside = outside_flops(model, length)
    embedding = outside.embedding * positions
    head = outside.head
    coda = flops(bare.coda, outside.coda, tokens, batch * width_of_all)
    prelude = flops(bare.prelude, outside.prelude, tokens, batch * width_of_all)
    forward = embedding + prelude + coda + head * positions
    block = flops(block_flops(model, 0), block_flops(model, length), rows, queries)
    forward += block + rule_flops(model) * active
    if not training:
        return forward
    backward = 2 * forward - embedding
    if recurrence.readout.keeps_states:
        answers = head * active + coda * trace.num_steps
        forward = forward + answers
        backward = backward + 2 * (answers - coda - head * positions)
    if isinstance(recurrence.backprop, Checkpointed):
        backward += block - recurrence.block.flops_kept() * rows
    return forward + backward


def mean_steps(trace: LoopTrace) -> float:
    """Executed steps a token."""
    steps: Tensor = trace.steps.sum() / trace.valid.sum()
    return float(steps)
