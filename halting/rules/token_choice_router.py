"""Each token is sent to a depth before it takes its first step."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from halting.costs.load_balance import LoadBalance
from halting.errors import UsageError
from halting.gate import Gate
from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView, alone


class TokenChoiceRouter(HaltingRule):
    """One choice before step 1: the token takes i steps, i the depth of its highest score, and
    leaves with all mass (Mixture-of-Recursions, Bae et al. 2025, token-choice routing).

        z = W·x + b [N],   g = alpha·softmax(z) or alpha·σ(z),   i = argmax_n (g_n + bias_n)
        s_n = block(s_{n−1}) for n < i,   s_i = s_{i−1} + g_i·(block(s_{i−1}) − s_{i−1})

    x is the state before step 1. The gain g_i, on the token's last step (and any that a wrapper
    adds), is the task's gradient path to the router; a tie goes to the smaller depth.

    Left alone, routers of this kind send most tokens to one depth. `balance="loss"` trains with
    `LoadBalance`. `balance="bias"` has no cost: after each update, bias_n moves by `bias_rate` up
    where depth n got less than its share of the update's tokens, those of all ranks and
    micro-batches, down where it got more (loss-free balancing, Wang et al. 2024). The bias takes
    part in the choice, not in the gain.

    Warm-up: during the first `warmup` updates all tokens take all N steps, and the bias rests. The
    count of updates and the bias (as a whole number of moves, which no cast to a narrow dtype can
    round) are buffers, so that they are in checkpoints; `end_update` moves them.

    Differs from the source: the last step scales the block's *change* of the state, where the
    public code gives x + g_i·block(s), the block's own residual stream inside; the router has a
    bias b, 0 at first.

    Causal: it reads the token's own state alone. The router gets gradient through gain and cost.
        Costs N dot products a
    token, once, and N + 2 numbers a token and step in the trace. Score: g_i.

    Args:
        dim: D, width of the state.
        max_steps: N, the number of depths. A loop that allows fewer cuts deeper tokens off; more
            changes nothing.
        scores: "softmax" over the depths, or "sigmoid" of each.
        alpha: factor of the scores, > 0; published: 1 with softmax, 0.1 with sigmoid.
        balance: "loss" or "bias".
        bias_rate: how far the loss-free bias moves at once, > 0.
        warmup: updates with all tokens at depth N; 0 for none.

    Raises:
        UsageError: for an alpha, rate or warm-up that cannot be.
    """

    gives_gain = True
    gives_aux = ("depth", "depth_scores", "depth_log_sum")
    default_readout = FinalState
    default_cost = LoadBalance
    updates: Tensor
    moves: Tensor
    sent: Tensor

    def __init__(
        self,
        dim: int,
        max_steps: int,
        scores: Literal["softmax", "sigmoid"] = "softmax",
        alpha: float = 1.0,
        balance: Literal["loss", "bias"] = "loss",
        bias_rate: float = 0.001,
        warmup: int = 0,
    ):
        super().__init__()
        _check(alpha, bias_rate, warmup)
        self.scores = scores
        self.alpha = alpha
        self.balance = balance
        self.warmup = warmup
        self.bias_rate = bias_rate
        if balance == "bias":
            self.default_cost = None
        self.router = Gate(dim, 0.0, max_steps)
        nn.init.normal_(
            self.router.weight, std=0.02
        )  # at 0 all would tie, and all would leave after step 1
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("moves", torch.zeros(max_steps, dtype=torch.int64))
        # Since the last update, on this rank: nothing at the moment of a checkpoint.
        self.register_buffer("sent", torch.zeros(max_steps, dtype=torch.int64), persistent=False)

    def begin(self, view: StepView) -> tuple[Memory, Tensor]:
        logits = self.router(view.state)
        scores = self.alpha * (logits.softmax(-1) if self.scores == "softmax" else logits.sigmoid())
        depth = (scores.detach() + self.bias_rate * self.moves.to(scores.dtype)).argmax(-1) + 1
        if self.training:
            depth = torch.where(
                self.updates < self.warmup, torch.full_like(depth, len(self.moves)), depth
            )
            self.sent += torch.bincount(depth - 1, minlength=len(self.moves))
        score = scores.gather(-1, (depth - 1).unsqueeze(-1)).squeeze(-1)
        memory = {"depth": depth, "score": score, "scores": scores, "log_sum": logits.logsumexp(-1)}
        return memory, _gain(score, depth, view.step)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict)
        depth = memory["depth"]
        score = memory["score"]
        scores = memory["scores"]
        log_sum = memory["log_sum"]
        assert isinstance(depth, Tensor) and isinstance(score, Tensor)
        assert isinstance(scores, Tensor) and isinstance(log_sum, Tensor)
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=view.step >= depth,
            score=score,
            gain=_gain(score, depth, view.step + 1),
            aux={"depth": depth, "depth_scores": scores, "depth_log_sum": log_sum},
        )
        return decision, memory

    def end_update(self, over_ranks: Callable[[Tensor], Tensor] = alone) -> None:
        if self.balance == "bias":
            sent = over_ranks(self.sent)
            self.moves += torch.sign(sent.sum() - len(self.moves) * sent) * (
                self.updates >= self.warmup
            )
        self.sent.zero_()
        self.updates += 1


def _gain(score: Tensor, depth: Tensor, step: Tensor) -> Tensor:
    """The gain [A] on the update of `step`: whole updates on the way, the chosen depth's score at
    the end."""
    return torch.where(step >= depth, score, torch.ones_like(score))


def _check(alpha: float, bias_rate: float, warmup: int) -> None:
    if not alpha > 0:
        raise UsageError(
            f"alpha is {alpha}.",
            "It multiplies the scores, and at 0 or below the last step of every token would change "
            "nothing.",
            'Use 1, or 0.1 with scores="sigmoid", as published.',
        )
    if not bias_rate > 0:
        raise UsageError(
            f"bias_rate is {bias_rate}.",
            "It is how far the bias of a depth moves towards balance after an update.",
            'Use 0.001 as published; to do without the bias, balance="loss".',
        )
    if warmup < 0:
        raise UsageError(
            f"warmup is {warmup}.",
            "It counts the updates in which all tokens take all steps.",
            "Use 0 for none, or more.",
        )
