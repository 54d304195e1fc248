"""The mean of the exit distribution as a cost."""

from torch import Tensor

from halting.costs.cost import PonderCost, StepOutcomes
from halting.trace import LoopTrace


class ExpectedSteps(PonderCost):
    """Σ n·p_n, the mean exit step under the mass that was spent (Sparse Universal Transformer
    2023), in steps.

    Differentiable in every mass, so every gate value before the last step gets gradient. The
    default penalty is small: with 0.01 a rule that starts at λ = ½ stayed at two steps on
    pointer_chase (docs/log.md).
    """

    default_penalty = 0.001
    warms_up = True

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        return trace.expected_steps
