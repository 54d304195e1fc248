"""The ponder cost of Adaptive Computation Time."""

from torch import Tensor

from halting.costs.cost import PonderCost, StepOutcomes
from halting.trace import LoopTrace


class StepsPlusRemainder(PonderCost):
    """ρ = N + R: the steps a token took plus the mass left for the last of them (Graves 2016,
    section 2.1), in steps.

    The count N has no gradient; R = 1 − Σ_{n<N} λ_n carries it: raising any earlier λ lowers R, and
    so the cost. The last step's own λ gets none (it spends what is left, whatever λ says), and a
    token that leaves at step 1 none at all.
    """

    warms_up = True

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        return trace.steps.to(trace.mass.dtype) + trace.remainder
