"""Adaptive Computation Time."""

import torch
from torch import Tensor

from halting.costs.steps_plus_remainder import StepsPlusRemainder
from halting.errors import UsageError
from halting.exit_threshold import SHARE_LEFT
from halting.gate import Gate
from halting.readout import WeightedMean
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView


class GravesACT(HaltingRule):
    """Spend λ_n = σ(w·s_n + b) at each step; leave once at most ε would be left (Graves 2016,
    section 2).

    The hazard is read on the state *after* the step, masses add up, and the step at which Σ λ ≥ 1 −
    ε takes the remainder, as does the last allowed step. The output is Σ p_n·s_n and the cost N +
    R.

    Differs from the paper in the bias only: the paper starts at +1, which is prone to collapse to
    one step (docs/ponder_penalty.md).

    Causal. The gate gets gradient through the mass (readout and remainder). Costs one dot product a
    token and step.

    Args:
        dim: D, width of the state.
        bias_init: starting logit of λ; −3 starts deep, 0 or more traps many runs in one or two
            steps.
        epsilon: ε, the mass that may be left over, in [0, 1).

    Raises:
        UsageError: for ε outside of [0, 1).
    """

    spreads_mass = True
    exit_threshold = SHARE_LEFT
    default_readout = WeightedMean
    default_cost = StepsPlusRemainder

    def __init__(self, dim: int, bias_init: float = -1.0, epsilon: float = 0.01):
        super().__init__()
        if not 0.0 <= epsilon < 1.0:
            raise UsageError(
                f"epsilon is {epsilon}.",
                "It is the mass that may be left over. A token holds 1, so at 1 all would leave "
                "after the first step, and below 0 none before the limit.",
                "Use a small one in [0, 1), such as 0.01.",
            )
        self.gate = Gate(dim, bias_init)
        self.epsilon = epsilon

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        hazard = torch.sigmoid(self.gate(view.state)).squeeze(-1)
        halt: Tensor = view.remaining - hazard <= self.epsilon
        return StepDecision(mass=hazard, halt=halt, score=hazard), None
