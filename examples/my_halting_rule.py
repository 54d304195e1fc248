"""A halting rule of your own in one file: stop once the state has come to rest.

ponder train pointer_chase --halting.kind examples/my_halting_rule.py:Stillness
ponder show
"""

import torch

from halting import Gate, HaltingRule, Memory, StepDecision, StepsPlusRemainder, StepView
from halting.mass import halting_dtype
from halting.readout import WeightedMean


class Stillness(HaltingRule):
    """Spend λ_n = σ(w·s_n + b − a·log m_n), where m_n = |s_n − s_{n−1}| / |s_n| is how much the
    last step still moved the state; leave once at most ε of the mass would be left, as in Graves'
    Adaptive Computation Time.

    All of w, a and b are learned: what the state says, how much rest counts, and how eager to stop
    at the start. Causal. The gate gets gradient through the mass. Costs one dot product and two
    norms a token and step.

    Args:
        dim: D, width of the state; the run hands it over.
        bias_init: b at the start; higher stops earlier.
        rest_init: a at the start; at 0, rest does not count.
        epsilon: ε, the mass that may be left over.
    """

    spreads_mass = True
    default_readout = WeightedMean
    default_cost = StepsPlusRemainder

    def __init__(
        self, dim: int, bias_init: float = -2.0, rest_init: float = 1.0, epsilon: float = 0.01
    ):
        super().__init__()
        self.gate = Gate(dim, bias_init)
        self.rest = torch.nn.Parameter(torch.tensor(rest_init))
        self.epsilon = epsilon

    def begin(self, view: StepView) -> tuple[Memory, None]:
        return view.state, None

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, torch.Tensor)
        wide = halting_dtype(view.state.dtype)  # halting arithmetic is float32 or wider
        before = memory.to(wide)
        now = view.state.to(wide)
        size = torch.linalg.vector_norm(now, dim=-1) + 1e-6
        moved = torch.linalg.vector_norm(now - before, dim=-1) / size
        rest = self.rest.to(wide) * torch.log(moved + 1e-6)
        hazard = torch.sigmoid(self.gate(now).squeeze(-1) - rest)
        halt = view.remaining - hazard <= self.epsilon
        return StepDecision(mass=hazard, halt=halt, score=hazard), view.state
