"""Stick-breaking halting of the Sparse Universal Transformer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from halting.costs.expected_steps import ExpectedSteps
from halting.errors import UsageError
from halting.exit_threshold import share_reached
from halting.mass import halting_dtype
from halting.readout import WeightedMean
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace


class StickBreaking(HaltingRule):
    """Break a piece off what is left of the stick at each step; leave once almost all of it is
    spent (Sparse Universal Transformer, Tan et al. 2023, arXiv 2310.07096, the section on dynamic
    halting, and its public code).

    (log(1 − λ_n), log λ_n) = log_softmax(W₂·gelu(W₁·s_n + b₁)), p_n = λ_n·Π_{m<n} (1 − λ_m). A
    token leaves once Σ_{m≤n} p_m ≥ `threshold`, and that step, like the last allowed one, takes all
    that was left before it. The output is Σ p_n·s_n, which is the paper's halting-weighted state (1
    − Σ_{m<n} p_m)·s_n + Σ_{m<n} p_m·s_m at the step where the token left; the cost is Σ n·p_n. W₂
    starts at zero, so λ starts at ½ for every token: the mean exit is step 2, but a token is
    computed for ten steps, and each of them gets gradient.

    Differs from the source: there every token attends to the halting-weighted states of the others,
    here to their states, and to the keys and values of the step at which they left (law 2). The
    public code counts the first state as depth 0 and leaves the last crumb (less than 1 −
    `threshold`) out of the cost; here depths count from 1 and masses sum to one. No dropout inside
    the gate.

    Causal. The gate gets gradient through the mass (readout and cost). Costs a D by D product a
    token and step, which is far more than an affine gate and far less than a layer.

    Args:
        dim: D, width of the state.
        threshold: the mass at which a token has spent enough, in (0, 1]. The paper trains with
            0.999, and lowers it afterwards to save compute.

    Raises:
        UsageError: for a threshold outside of (0, 1].
    """

    spreads_mass = True
    exit_threshold = share_reached("threshold")
    default_readout = WeightedMean
    default_cost = ExpectedSteps

    def __init__(self, dim: int, threshold: float = 0.999):
        super().__init__()
        if not 0.0 < threshold <= 1.0:
            raise UsageError(
                f"threshold is {threshold}.",
                "It is the spent mass at which a token leaves. A token holds 1, so above it none "
                "would leave before the limit, and at 0 or below all would after the first step.",
                "Use one in (0, 1], such as 0.999.",
            )
        self.hidden = nn.Linear(dim, dim)
        self.last = nn.Parameter(torch.zeros(2, dim))
        self.threshold = threshold

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        proceed, hazard = self._gate(view.state).exp().unbind(-1)
        halt: Tensor = view.remaining * proceed <= 1.0 - self.threshold
        return StepDecision(mass=view.remaining * hazard, halt=halt, score=hazard), None

    def ponder(self, trace: LoopTrace) -> Float[Tensor, "B L"]:
        """Σ n·p_n, the expected depth that the paper reports and penalises; executed steps are
        more."""
        return trace.expected_steps

    def _gate(self, state: Float[Tensor, "A D"]) -> Float[Tensor, "A 2"]:
        """log(1 − λ) and log λ. State and weights are widened before the products (law 5)."""
        wide = halting_dtype(torch.promote_types(state.dtype, self.last.dtype))
        hidden = F.gelu(
            F.linear(state.to(wide), self.hidden.weight.to(wide), self.hidden.bias.to(wide))
        )
        return F.log_softmax(F.linear(hidden, self.last.to(wide)), dim=-1)
