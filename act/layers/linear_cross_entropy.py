"""The cross entropy of a linear head, without [tokens × vocabulary] logits in memory."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100
"""Where there is no target."""
_ROWS = 80


class AnswerLosses(NamedTuple):
    """What a head's answers cost.

    Args:
        total: Σ weight · loss, with gradient.
        losses: [M] nats, float32 or wider, without gradient; 0 where there is no target.
        predictions: [M] int64, the likeliest answer.
    """

    total: Tensor
    losses: Tensor
    predictions: Tensor


def linear_cross_entropy(
    states: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    targets: Int[Tensor, " M"],
    weights: Float[Tensor, " M"] | None = None,
    label_smoothing: float = 0.0,
) -> AnswerLosses:
    """Σ_i w_i·L_i with L_i = −(1 − ε)·ln p_i(target) − ε/V·Σ_v ln p_i(v) and
    p_i = softmax(head · state_i), and its gradients, which are worked out in the forward pass:
    logits of 80 rows at a time are made, used for both, and forgotten. What stays for the backward
    is [M D] and [V D], for one backward.

    It is faster than whole logits, too, for they are read and written once. Under autocast products
    are in its dtype, as those of `torch.nn.Linear`; the softmax is in float32 or wider. It is
    differentiated once only.

    Args:
        states: what the head reads.
        head: its weight.
        targets: the right answers, `IGNORED` where there is none.
        weights: w; 1 for all if None. It gets a gradient where it asks for one.
        label_smoothing: ε.
    """
    if weights is None:
        weights = states.new_ones(len(states), dtype=torch.promote_types(states.dtype, torch.float))
    device = states.device.type
    product = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return AnswerLosses(
        *_LinearCrossEntropy.apply(states, head, targets, weights, label_smoothing, product)  # pyright: ignore[reportArgumentType]
    )


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        label_smoothing: float,
        product: torch.dtype | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wants_states, wants_head, _, wants_weights = ctx.needs_input_grad[:4]
        read = head.to(product) if product else head
        wide = torch.promote_types(states.dtype, torch.float32)
        vocabulary = len(head)
        losses = states.new_zeros(len(states), dtype=wide)
        predictions = torch.zeros_like(targets)
        of_states = torch.zeros_like(states) if wants_states else None
        of_head = torch.zeros_like(head) if wants_head else None
        asked = targets != IGNORED
        chunk = head.new_empty(min(_ROWS, len(states)), vocabulary, dtype=read.dtype)  # of logits
        for begin in range(0, len(states), _ROWS):
            rows = slice(begin, begin + _ROWS)
            given = states[rows].to(read.dtype)
            scores = torch.mm(given, read.T, out=chunk[: len(given)]).to(wide)  # [R V]
            most, predictions[rows] = scores.max(-1)
            has_target = asked[rows]
            wanted = torch.where(has_target, targets[rows], 0).unsqueeze(-1)  # [R 1]
            right = scores.gather(-1, wanted).squeeze(-1)
            level = scores.mean(-1) if label_smoothing else 0.0
            powers = scores.sub_(most.unsqueeze(-1)).exp_()
            sums = powers.sum(-1)
            loss = sums.log() + most - (1 - label_smoothing) * right - label_smoothing * level
            losses[rows] = torch.where(has_target, loss, 0.0)
            if not (wants_states or wants_head):
                continue
            # ∂(Σ w·L)/∂logits = w·(p − (1 − ε)·1_target − ε/V)
            weight = torch.where(has_target, weights[rows].to(wide), 0.0).unsqueeze(-1)
            slope = powers.mul_(weight / sums.unsqueeze(-1))
            slope.scatter_add_(-1, wanted, (label_smoothing - 1) * weight)
            if label_smoothing:
                slope -= weight * (label_smoothing / vocabulary)
            slope = slope.to(read.dtype)
            if of_states is not None:
                of_states[rows] = slope @ read
            if of_head is not None:
                if of_head.dtype == read.dtype:
                    of_head.addmm_(slope.T, given)
                else:
                    of_head += slope.T @ given
        total = (weights.to(wide) * losses).sum()
        # Not `save_for_backward`: what is handed on is scaled in place, and held nowhere else.
        ctx.gradients = [
            of_states,
            of_head,
            losses.to(weights.dtype, copy=True) if wants_weights else None,
        ]
        ctx.mark_non_differentiable(losses, predictions)
        return total, losses, predictions

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "The losses of a linear head went backward a second time; their gradients are "
                "worked out in the forward pass, and kept for one backward."
            )
        of_states, of_head, of_weights = (
            None if each is None else each.mul_(slope.to(each.dtype)) for each in gradients
        )
        return of_states, of_head, None, of_weights, None, None
