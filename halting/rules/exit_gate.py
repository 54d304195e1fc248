"""The exit gate of looped language models: full depth in training, early exits in evaluation."""

import torch
from torch import Tensor

from halting.costs.uniform_prior import UniformPrior
from halting.exit_threshold import share_reached
from halting.gate import Gate, unit_rms
from halting.readout import EveryStep
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView
from halting.survival import Quantile, quantile_step
from halting.trace import LoopTrace


class ExitGate(HaltingRule):
    """λ_n = σ(w·norm(s_n) + b), p_n = λ_n·Π_{m<n}(1 − λ_m), the last step takes what is left; in
    training everybody runs to the limit, in evaluation a token leaves at the first n with Σ_{m≤n}
    p_m ≥ q (Ouro / LoopLM, Zhu et al. 2025, arXiv 2510.25741, section 3).

    Trained in two stages. First `UniformPrior`: Σ p_n·L_n + β·KL(p ‖ uniform), losses mixed, not
    logits. Then, with the model frozen, `GateTarget` on the logit that `aux["exit_logit"]` keeps,
    with the readout `DeepSupervision`, whose weights are constants: under `EveryStep` the task's
    own gradient would go on moving the gate through the mass.

    Differs from the paper in the norm. There the gate reads what the output head reads, the state
    after the model's final RMSNorm. Here norm is s / √(mean s² + 1e-6) without weights: a gate
    behind a norm with weights c computes w·(c ⊙ norm(s)), and w alone can be any w ⊙ c, so it is
    the same family of gates, at another starting point and not shared with the head. The public
    code runs all steps and then chooses one; here who has left is not computed. That code's
    threshold is 1 unless set, which never leaves early; here q is 0.5, the median of the exit
    distribution.

    Causal. The gate gets gradient through the mass (task loss and prior) or through `aux`
    (`GateTarget`). Costs one norm and one dot product a token and step; training costs N steps and
    N calls of the output head for every token.

    Args:
        dim: D, width of the state.
        bias_init: starting logit of λ; −2 (λ = 0.12) spreads the first masses over many steps.
        q: the share of the exit distribution that is behind a token when it leaves in evaluation,
            in (0, 1]. May be changed at any time.

    Raises:
        UsageError: for q outside of (0, 1].
    """

    q = Quantile()
    spreads_mass = True
    gives_aux = ("exit_logit",)
    exit_threshold = share_reached("q")
    default_readout = EveryStep
    default_cost = UniformPrior

    def __init__(self, dim: int, bias_init: float = -2.0, q: float = 0.5):
        super().__init__()
        self.gate = Gate(dim, bias_init)
        self.q = q

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        logit = self.gate(unit_rms(view.state)).squeeze(-1)
        hazard = torch.sigmoid(logit)
        mass = view.remaining * hazard
        if self.training:
            halt = torch.zeros_like(view.step, dtype=torch.bool)
        else:
            halt = view.remaining - mass <= 1.0 - self.q
        return StepDecision(mass=mass, halt=halt, score=hazard, aux={"exit_logit": logit}), None

    def fixed_depth(self, max_steps: int) -> int | None:
        return max_steps if self.training else None

    def ponder(self, trace: LoopTrace) -> Tensor:
        """The first n with Σ_{m≤n} p_m ≥ q: in evaluation where the token left, in training where
        it would have."""
        return quantile_step(trace, self.q) if self.training else super().ponder(trace)
