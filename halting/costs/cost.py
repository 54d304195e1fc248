"""The seam of a ponder cost: a trace in, one number a token out."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar, Literal, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from halting.errors import UsageError
from halting.readout import Readout
from halting.trace import LoopTrace


class StepOutcomes(NamedTuple):
    """What each executed step would have answered; 0 / False where the token was not computed.

    Args:
        loss: [B L N] the task's loss at each step, nats.
        prediction: [B L N] int64, the most likely answer at each step.
        correct: [B L N] bool; False where there is no target.
        has_target: [B L] bool, the positions that have an answer; False on padding.
    """

    loss: Tensor
    prediction: Tensor
    correct: Tensor
    has_target: Tensor

    @property
    def sequence_correct(self) -> Bool[Tensor, "B N"]:
        """[B N]: whether every asked position is right at that step; also True where none is
        asked."""
        return (self.correct | ~self.has_target.unsqueeze(-1)).all(1)


class PonderCost(ABC):
    """What thinking costs each token, before the penalty multiplies it.

    Attributes:
        unit: "steps" or "nats".
        needs_spread_mass: the cost's gradient reaches the gate through the mass, so a hard exit
            cannot be trained by it.
        needs_outcomes: it reads `StepOutcomes`.
        needs_aux: what it reads from `LoopTrace.aux`, by name; the rule has to say it.
        made_for: the rule that says it.
        default_readout: the readout that this cost is meant for; None for the rule's own.
        default_penalty: what one unit weighs in the loss, unless a run says otherwise.
        warms_up: it presses to stop early, so its penalty is better raised slowly; others are
            needed from the start.
        steered_by: the attribute whose rise asks for more steps (a prior's mean), for costs whose
            weight does not ask for fewer; None where a cost in steps is steered by its weight, or
            nothing steers it.
    """

    unit: ClassVar[Literal["steps", "nats"]] = "steps"
    needs_spread_mass: ClassVar[bool] = True
    needs_outcomes: ClassVar[bool] = False
    needs_aux: ClassVar[tuple[str, ...]] = ()
    made_for: ClassVar[str] = "a rule that says it"
    default_readout: ClassVar[type[Readout] | None] = None
    default_penalty: ClassVar[float] = 0.01
    warms_up: ClassVar[bool] = False
    steered_by: ClassVar[str | None] = None

    @abstractmethod
    def __call__(
        self, trace: LoopTrace, outcomes: StepOutcomes | None = None
    ) -> Float[Tensor, "B L"]:
        """[B L] unreduced, 0 on padding."""

    def aux_of(self, trace: LoopTrace) -> tuple[Tensor, ...]:
        """What `needs_aux` names, in that order.

        Raises:
            UsageError: where the rule has not said it.
        """
        self.check_aux(trace.aux)
        return tuple(trace.aux[name] for name in self.needs_aux)

    def check_aux(self, aux: Collection[str], rule: str = "the rule of this loop") -> None:
        """Raises UsageError where a rule that says `aux` beside its decisions lacks what the cost
        reads."""
        if missing := [name for name in self.needs_aux if name not in aux]:
            raise UsageError(
                f"{type(self).__name__} finds no {' and no '.join(missing)} in what {rule} says.",
                f"It trains {self.made_for}, which hands that on beside its decisions.",
                f"Use {self.made_for}, or the rule's own cost; a rule of yours puts it into "
                "StepDecision.aux, and its name into gives_aux.",
            )
