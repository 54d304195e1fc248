"""Each step picks the tokens of a sequence that go on."""

from collections.abc import Callable
from itertools import pairwise
from math import pi
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halting.costs.top_k_target import TopKTarget
from halting.errors import UsageError
from halting.gate import Gate
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.sequences import Sequences
from halting.step import Memory, StepDecision, StepView, alone


class ExpertChoiceRouter(HaltingRule):
    """Step n computes the k_n highest scoring tokens of a sequence among those that took step n −
    1; the others leave with all mass (Mixture-of-Recursions, Bae et al. 2025, expert-choice
    routing).

        z = w_n·s_{n−1} + b_n,   g = alpha·σ(z),   s_n = s_{n−1} + g·(block(s_{n−1}) − s_{n−1})
        k_n = max(1, ⌊c_n·T⌋),   T the tokens of the whole sequence, not of those that are left

    Ranked by z, within the sequence, ties by position; padding is never met. Each step has a router
    of its own, and the last one, with its fraction, serves any step beyond N. All take step 1. The
    gain g is the task's gradient path to the router; the cost `TopKTarget` trains z > 0 to mean
    "chosen".

    Warm-up: in training the fraction falls from 1 to c_n along a half cosine over `warmup` updates.
    Their count is a buffer, so that it is in checkpoints, and `end_update` counts.

    Differs from the source: the block's *change* of the state is scaled, where the public code adds
    g·block(s) with the block's own residual stream inside; each router has a bias, 0 at first; T
    counts real tokens, there padding too; no cost on step 1, where nothing is chosen. Attention
    goes on reading what a token wrote when it left (law 2).

    Not causal: whether a token goes on depends on all others of its sequence.
    `evaluation="threshold"` decides each token alone, by z > 0, as decoding would have to; training
    still ranks, so it is refused in causal models all the same. Not for `PerSequence` and
    `MinSteps`, nor for truncated backpropagation: the gain of the first step after a cut is
    computed from the state before it.

    The router gets gradient through gain and cost. Costs N dot products and a sort a token and
    step. Score: σ(z).

    Args:
        dim: D, width of the state.
        max_steps: N, the depth that it is made for.
        capacity: "linear" for c_n = (N − n + 1) / N, or the fractions themselves, such as
            "1,0.67,0.33": the first 1, none above the one before; the last holds for all later
            steps.
        alpha: the largest gain, > 0; 0.1 is published.
        warmup: updates until the fractions are reached; 0 for none.
        evaluation: who goes on in evaluation, "top_k" as in training or "threshold".

    Raises:
        UsageError: for fractions that are none, an alpha or a warm-up that cannot be.
    """

    causal = False
    gives_gain = True
    gain_reads_state = True
    ranks_tokens = True
    gives_aux = ("choice_logit", "choice")
    default_readout = FinalState
    default_cost = TopKTarget
    updates: Tensor

    def __init__(
        self,
        dim: int,
        max_steps: int,
        capacity: str = "linear",
        alpha: float = 0.1,
        warmup: int = 500,
        evaluation: Literal["top_k", "threshold"] = "top_k",
    ):
        super().__init__()
        _check(alpha, warmup)
        self.fractions = _fractions(capacity, max_steps)
        self.alpha = alpha
        self.warmup = warmup
        self.evaluation = evaluation
        self.router = Gate(dim, 0.0, max_steps)
        # At 0 all would tie, and position alone would choose.
        nn.init.normal_(self.router.weight, std=0.02)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def begin(self, view: StepView) -> tuple[Memory, Tensor]:
        sequences = Sequences.by_row(view.row)
        gain = self.alpha * torch.sigmoid(self._logit(view.state, view.step))
        return {"tokens": sequences.counts[sequences.of]}, gain

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict) and isinstance(memory["tokens"], Tensor)
        logit = self._logit(view.state, view.step + 1)
        chosen = _rank(logit, view.row, view.position) < self._num_chosen(
            memory["tokens"], view.step + 1
        )
        stays = chosen if self.training or self.evaluation == "top_k" else logit > 0
        asked = view.step < view.max_steps
        probability = torch.sigmoid(logit)
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=~stays,
            score=probability,
            gain=self.alpha * probability,
            aux={"choice_logit": logit, "choice": (2 * chosen.long() - 1) * asked},
        )
        return decision, memory

    def end_update(self, over_ranks: Callable[[Tensor], Tensor] = alone) -> None:
        self.updates += 1

    def _logit(self, state: Float[Tensor, "A D"], step: Int[Tensor, " A"]) -> Float[Tensor, " A"]:
        """What the router of each token's `step` says."""
        logits = self.router(state)  # [A N]
        own = (step - 1).clamp(max=logits.shape[-1] - 1)  # [A]
        return logits.gather(-1, own.unsqueeze(-1)).squeeze(-1)

    def _num_chosen(self, tokens: Int[Tensor, " A"], step: Int[Tensor, " A"]) -> Int[Tensor, " A"]:
        """k of each token's sequence, of so many `tokens`, at its `step`."""
        fractions = torch.tensor(self.fractions, dtype=torch.float64, device=tokens.device)
        fraction = fractions[(step - 1).clamp(max=len(self.fractions) - 1)]
        if self.training and self.warmup:
            done = (self.updates.double() / self.warmup).clamp(max=1.0)
            fraction = fraction + (1 - fraction) * 0.5 * (1 + torch.cos(pi * done))
        # 0.29 · 100 is 28.999999999999996
        return (fraction * tokens + 1e-9).floor().long().clamp(min=1)


def _rank(
    score: Float[Tensor, " A"], row: Int[Tensor, " A"], position: Int[Tensor, " A"]
) -> Int[Tensor, " A"]:
    """Each token's place in its row by falling score, counted from 0; of equals the earlier
    position comes first."""
    # [A] each: sorted by position, then by score, then by row, each sort keeping the order of the
    # one before among equals.
    order = position.argsort(stable=True)
    order = order[score.detach()[order].argsort(stable=True, descending=True)]
    order = order[row[order].argsort(stable=True)]
    rows = row[order].contiguous()
    start = torch.searchsorted(rows, rows)  # [A] where the token's row begins in that order
    rank = torch.arange(len(order), device=row.device) - start
    return torch.empty_like(rank).scatter(0, order, rank)


def _fractions(capacity: str, max_steps: int) -> tuple[float, ...]:
    if capacity == "linear":
        return tuple((max_steps - n) / max_steps for n in range(max_steps))
    try:
        fractions = tuple(float(part) for part in capacity.split(","))
    except ValueError:
        fractions = ()
    falling = all(earlier >= later > 0 for earlier, later in pairwise(fractions))
    if not fractions or fractions[0] != 1 or not falling:
        raise UsageError(
            f"capacity is {capacity!r}.",
            "It says which fraction of a sequence takes each step: all take the first, and only "
            "who took one step can be chosen for the next.",
            'Use "linear", or fractions that start at 1, never rise and stay above 0, such '
            'as "1,0.67,0.33".',
        )
    return fractions


def _check(alpha: float, warmup: int) -> None:
    if not alpha > 0:
        raise UsageError(
            f"alpha is {alpha}.",
            "It is the largest share of the block's update that a token gets, and at 0 or below "
            "nothing would change.",
            "Use 0.1 as published, or up to 1.",
        )
    if warmup < 0:
        raise UsageError(
            f"warmup is {warmup}.",
            "It counts the updates over which the fractions fall from 1.",
            "Use 0 for none, or more.",
        )
