"""The ponder cost of the public Universal Transformer code."""

from torch import Tensor

from halting.costs.cost import PonderCost, StepOutcomes
from halting.trace import LoopTrace


class UpdatesPlusRemainder(PonderCost):
    """M + R: the published count of updates of a token, which is less than its executed steps, plus
    its remainder (Universal Transformer, Dehghani et al. 2018, `act_loss` of its public code), in
    steps.

    The count M has no gradient; R = 1 − Σ_{n<M} λ_n carries it. A token that the step limit cuts
    off has R = 0, costs N and gets no gradient: unlike in `StepsPlusRemainder` a longer limit can
    cost less. Read from what `UniversalTransformerACT` leaves in `aux` (`update` and `remainder`).

    The public code averages over every position, padding included, and weighs by 0.01. Here padding
    costs 0 and is not counted.

    Raises:
        UsageError: when called, for the trace of a rule that does not say both.
    """

    needs_spread_mass = False
    needs_aux = ("update", "remainder")
    made_for = "UniversalTransformerACT"
    default_penalty = 0.01
    warms_up = True

    def __call__(self, trace: LoopTrace, outcomes: StepOutcomes | None = None) -> Tensor:
        update, remainder = self.aux_of(trace)
        return update.sum(-1) + remainder.sum(-1)
