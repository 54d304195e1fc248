"""PonderNet: halting as a random variable whose distribution is learned."""

import torch
from torch import Tensor

from halting.costs.geometric_prior import GeometricPrior
from halting.errors import UsageError
from halting.exit_threshold import share_reached
from halting.gate import Gate
from halting.readout import EveryStep
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.survival import Quantile, quantile_step
from halting.trace import LoopTrace


class PonderNet(HaltingRule):
    """λ_n = σ(w·s_n + b) is the chance to stop at step n, given that the token still runs (Banino
    et al. 2021, section 2): p_n = λ_n·Π_{m<n}(1 − λ_m), and the last step takes what is left.

    In training a token leaves once at most ε of its mass is left, and each step's own loss is
    weighed by its mass: Σ p_n·L_n + β·KL(p ‖ geometric prior). In evaluation it leaves at the first
    step by which it would have stopped with chance q, Σ_{m≤n} p_m ≥ q; with `sample=True` it draws,
    as in the paper, and leaves with chance λ_n.

    Differs from the paper in the default exit, which does not draw: a checkpoint's answers are then
    the same each time, and q moves along the trade of accuracy against compute. At q = 0.5 that
    exit is the median of the step that would be drawn, of all fixed answers the one with the
    smallest expected distance from the draw, in steps.

    Causal. The gate gets gradient through the mass (task loss and prior). Costs one dot product a
    token and step, and in training the output head once for every executed step.

    Args:
        dim: D, width of the state.
        bias_init: starting logit of λ; −1.5 (λ = 0.18, 5.5 steps on average) starts near the
            default prior of 5 steps.
        epsilon: ε, the mass that may be left over in training, in [0, 1); 0.05 as in the paper.
        q: the share of the exit distribution that is behind a token when it leaves in evaluation,
            in (0, 1]. May be changed at any time.
        sample: draw the exit in evaluation; q then has no say.

    Raises:
        UsageError: for ε outside of [0, 1) or q outside of (0, 1].
    """

    q = Quantile()
    spreads_mass = True
    exit_threshold = share_reached("q")
    default_readout = EveryStep
    default_cost = GeometricPrior

    def __init__(
        self,
        dim: int,
        bias_init: float = -1.5,
        epsilon: float = 0.05,
        q: float = 0.5,
        sample: bool = False,
    ):
        super().__init__()
        if not 0.0 <= epsilon < 1.0:
            raise UsageError(
                f"epsilon is {epsilon}.",
                "It is the mass that may be left over in training. A token holds 1, so at 1 all "
                "would leave after the first step, and below 0 none before the limit.",
                "Use a small one in [0, 1), such as 0.05.",
            )
        self.gate = Gate(dim, bias_init)
        self.epsilon = epsilon
        self.q = q
        self.sample = sample

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        hazard = torch.sigmoid(self.gate(view.state)).squeeze(-1)
        mass = view.remaining * hazard
        if self.sample and not self.training:
            halt: Tensor = view.uniform() < hazard
        else:
            halt = view.remaining - mass <= (self.epsilon if self.training else 1.0 - self.q)
        return StepDecision(mass=mass, halt=halt, score=hazard), None

    def ponder(self, trace: LoopTrace) -> Tensor:
        """In training the mean exit step Σ n·p_n; in evaluation the step at which the token left,
        by quantile or draw.

        A trace of an evaluation ends where the token left, with all the rest of its mass on that
        step, so Σ n·p_n over it would be the mean of min(n, exit): below the mean of p and below
        the executed steps. The mean over draws of a sampled exit is Σ n·p_n.
        """
        return trace.expected_steps if self.training else super().ponder(trace)

    def exit_step(self, trace: LoopTrace) -> Tensor:
        """In training the first n with Σ_{m≤n} p_m ≥ q, at which evaluation leaves; the mean Σ
        n·p_n where it draws."""
        return (
            quantile_step(trace, self.q)
            if self.training and not self.sample
            else self.ponder(trace)
        )
