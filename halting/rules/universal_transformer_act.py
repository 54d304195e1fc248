"""Adaptive Computation Time as the public Universal Transformer code has it."""

import torch
from jaxtyping import Float
from torch import Tensor

from halting.costs.updates_plus_remainder import UpdatesPlusRemainder
from halting.errors import UsageError
from halting.exit_threshold import SHARE_LEFT
from halting.exponential_blend import ExponentialBlend
from halting.gate import Gate
from halting.rule import HaltingRule
from halting.sequences import Sequences
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace


class UniversalTransformerACT(HaltingRule):
    """Every token runs until its whole sequence has crossed the threshold; only the output of those
    that have stops (Universal Transformer, Dehghani et al. 2018, arXiv 1807.03819, as in its public
    code in Tensor2Tensor).

    λ_n = σ(w·e_n + b), where e_n is what the block reads at step n: the state *before* the step,
    with the input injection and the step signal added. With c_n = Σ_{m≤n} λ_m, a token crosses at
    the first step M where c_M > 1 − ε. Its published weights are w_n = λ_n before M, w_M = R = 1 −
    c_{M−1}, and 0 after it; its update count is M. A token that the step limit N cuts off has w_n =
    λ_n at every step, M = N and no remainder, R = 0. The output is the exponential blend o_n =
    w_n·s_n + (1 − w_n)·o_{n−1} with o_0 = 0 (`ExponentialBlend`), the cost M + R
    (`UpdatesPlusRemainder`).

    The paper says that a halted state is copied to the next step. The code transforms every
    position until the last has crossed, and others attend to the running state; so it is here. To
    stay within the laws of the loop, tokens are active until their whole sequence has crossed,
    their unit of exit mass is spent on that step and says nothing of the published weights, which
    travel in `aux`: `blend_weight`, `update` (1 at each of the M updates) and `remainder`.

    Differs from the public code: its loop ends with the slowest sequence of the *batch*, here each
    sequence ends with its own slowest token, which changes no output and no cost. The penalty is
    averaged over real tokens; there over
    padding too. The gate's weights start at zero. That code adds position and step signals to the
    state at each step: ask the block for a step signal, and for input injection where positions are
    embedded.

    Not causal: whether a token is still transformed depends on later tokens. The gate gets gradient
    through the blend and through the remainder, none through the mass. Costs one dot product a
    token and step, and it saves little
    compute: a sequence takes as many steps as its slowest token.

    Args:
        dim: D, width of the state.
        bias_init: starting logit of λ. The public code's 1 has every token cross at step 2, and a
            bias of 0 or more keeps many runs at one or two steps; −3 starts deep.
        epsilon: ε, in [0, 1).

    Raises:
        UsageError: for ε outside of [0, 1).
    """

    causal = False
    by_sequence = True
    gives_aux = ("blend_weight", "update", "remainder")
    exit_threshold = SHARE_LEFT
    default_readout = ExponentialBlend
    default_cost = UpdatesPlusRemainder

    def __init__(self, dim: int, bias_init: float = 1.0, epsilon: float = 0.01):
        super().__init__()
        if not 0.0 <= epsilon < 1.0:
            raise UsageError(
                f"epsilon is {epsilon}.",
                "A token crosses once its hazards sum to more than 1 − epsilon: at 1 all would "
                "after the first step, and below 0 the weights of the blend could sum to more than "
                "1.",
                "Use a small one in [0, 1), such as 0.01.",
            )
        self.gate = Gate(dim, bias_init)
        self.epsilon = epsilon

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return torch.zeros_like(view.remaining), None

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, Tensor)
        before = memory
        threshold = 1.0 - self.epsilon
        hazard = torch.sigmoid(self.gate(view.entering)).squeeze(-1)
        nothing = torch.zeros_like(hazard)
        all_of_it = torch.ones_like(hazard)
        running = before < 1.0
        crosses = running & (before + hazard > threshold)
        remainder = torch.where(crosses, 1.0 - before, nothing)
        weight = torch.where(crosses, remainder, torch.where(running, hazard, nothing))
        after = torch.where(running & ~crosses, before + hazard, all_of_it)
        decision = StepDecision(
            mass=torch.zeros_like(view.remaining),
            halt=Sequences.by_row(view.row).all_set(after >= threshold),
            score=hazard,
            aux={
                "blend_weight": weight,
                "update": running.to(hazard.dtype),
                "remainder": remainder,
            },
        )
        return decision, after

    def ponder(self, trace: LoopTrace) -> Float[Tensor, "B L"]:
        """M, the published update count; executed steps are those of the slowest token of the
        sequence."""
        return trace.aux["update"].sum(-1)
