"""Depth by looking ahead: a token goes on while one more step is expected to lower its loss."""

import torch
from torch import Tensor

from halting.costs.next_step_helps import NextStepHelps
from halting.errors import UsageError
from halting.exit_threshold import ExitThreshold
from halting.gate import Gate, unit_rms
from halting.readout import DeepSupervision
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace
from halting.would_leave import would_leave_step


class LookaheadDepth(HaltingRule):
    """z_n = w·norm(s_n) + b, σ(z_n) the chance that step n + 1 lowers this token's loss by more
    than δ; in training everybody runs to the limit, in evaluation a token leaves at the first n
    with σ(z_n) < c (TaH2, arXiv 2609.35748).

    Trained online beside the model by `NextStepHelps`, which holds δ. The gate reads the state
    without gradient, so it never shapes the model; there is no cost of thinking, so nothing presses
    towards fewer steps but the label. The label of step n needs the loss of step n + 1: hence all
    tokens run to the limit in training, be it fixed or drawn for each update
    (`--loop.train-depth`), and the readout `DeepSupervision` teaches every step to answer.

    Chosen here, whatever the paper has: the gate, linear on norm(s) = s / √(mean s² + 1e-6), as in
    `ExitGate`; the starting bias; c and δ.

    Causal. The gate gets gradient from `NextStepHelps` alone, through aux "helps_logit". Costs one
    norm and one dot product a token and step; training costs N steps and N calls of the output head
    for every token.

    Args:
        dim: D, width of the state.
        bias_init: starting logit; 2 (a chance of 0.88), so that an untrained gate goes on.
        threshold: c, the chance below which a token leaves in evaluation, in (0, 1).

    Raises:
        UsageError: for a threshold that is no chance.
    """

    gives_aux = ("helps_logit", "would_leave")
    exit_threshold = ExitThreshold("threshold", 1e-6, 0.999)
    default_readout = DeepSupervision
    default_cost = NextStepHelps

    def __init__(self, dim: int, bias_init: float = 2.0, threshold: float = 0.5):
        super().__init__()
        if not 0.0 < threshold < 1.0:
            raise UsageError(
                f"threshold is {threshold}.",
                "It is the chance that one more step helps below which a token leaves: no chance "
                "is below 0, and all are below 1.",
                "Use one in (0, 1), such as 0.5; a smaller one thinks longer.",
            )
        self.threshold = threshold
        self.gate = Gate(dim, bias_init)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logit = self.gate(unit_rms(view.state.detach())).squeeze(-1)
        chance = torch.sigmoid(logit)
        enough = chance < self.threshold
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=torch.zeros_like(enough) if self.training else enough,
            score=chance,
            aux={"helps_logit": logit, "would_leave": enough},
        )
        return decision, memory

    def fixed_depth(self, max_steps: int) -> int | None:
        return max_steps if self.training else None

    def ponder(self, trace: LoopTrace) -> Tensor:
        """The first n with σ(z_n) < c: in evaluation where the token left, in training where it
        would have."""
        return would_leave_step(trace) if self.training else super().ponder(trace)
