"""What a budget moves: the weight of a cost in steps, or the mean of a prior."""

import math
from dataclasses import dataclass, field

from halting.costs.cost import PonderCost
from halting.errors import UsageError

_HIGHEST = 100.0  # times the weight that was configured
_PAID = 10.0  # times that weight: no step is paid for with more
_WIDEST = math.log(1000.0)  # factors of e by which a prior's excess over one step moves, up or down
_MOST_LIMITS = 2.0  # a prior's mean: beyond it, the prior of a bounded number of steps is flat
_LEAST_ABOVE_ONE = 0.02  # a geometric prior's mean stays above 1


@dataclass(frozen=True)
class Actuator:
    """One knob, moved by a control towards fewer steps in units of a gain.

    A weight is control · gain · the weight that was configured: it passes through 0, and below it
    pays for steps, so that a target above what the task asks for by itself is held, too. A prior's
    mean is 1 + (start − 1) · e^(−control · gain).

    Args:
        cost: whose knob it is.
        weight: the coefficient that was configured, which stays where a prior's mean is moved.
        knob: the attribute of the cost that is moved; None for the coefficient.
        start: a prior's mean at no control.
        proportional_gain: control per error that suits it.
        low, high: the ends of the control.
        end: of the bias, on both sides.
        most, back: the largest gain, and the largest for more steps.
    """

    cost: PonderCost = field(repr=False)
    weight: float
    knob: str | None = None
    start: float = 1.0
    proportional_gain: float = 12.0
    low: float = -1.0
    end: float = 1.0
    high: float = 2.0
    most: float = _HIGHEST
    back: float = _PAID

    def apply(self, control: float, gain: float) -> float:
        """Sets the knob; gives the coefficient."""
        value = self.value(control, gain)
        if self.knob is None:
            return value
        setattr(self.cost, self.knob, value)
        return self.weight

    def value(self, control: float, gain: float) -> float:
        """What the knob shows."""
        if self.knob is None:
            return self.weight * max(-_PAID, min(_HIGHEST, control * gain))
        return 1.0 + max(_LEAST_ABOVE_ONE, (self.start - 1.0) * math.exp(-control * gain))

    def named(self, control: float, gain: float) -> str:
        """`penalty 0.012`, `prior_steps 3.4`."""
        return f"{self.knob or 'penalty'} {self.value(control, gain):.3g}"


def actuator_of(
    cost: PonderCost | None, weight: float, target: float, rule: str, max_steps: int
) -> Actuator:
    """What moves the mean ponder under this cost.

    Args:
        cost: the run's.
        weight: its coefficient, as configured.
        target: in steps; a prior's mean starts there.
        rule: the halting rule's name, for messages.
        max_steps: N; a prior's mean stays within twice as many.

    Raises:
        UsageError: where nothing does.
    """
    if cost is None:
        raise UsageError(
            f"--penalty.target-steps comes with --halting.kind {rule}, which has no ponder cost.",
            "The penalty weighs a cost of thinking; without one there is nothing to move, and who "
            "leaves when is settled by the rule's own options.",
            "Set the rule's threshold or depth instead, or use a rule whose cost is in steps, such "
            "as --halting.kind GravesACT.",
        )
    name = type(cost).__name__
    if cost.steered_by is not None:
        # Its proportional_gain is low: where all tokens leave by the same quantile, they change
        # their minds together.
        start = max(target, 1.0 + _LEAST_ABOVE_ONE)
        # A mean far beyond the step limit does what twice the limit does, and would take long to
        # come back from.
        low = -math.log((max(_MOST_LIMITS * max_steps, start) - 1.0) / (start - 1.0))
        high = _WIDEST
        return Actuator(
            cost,
            weight,
            cost.steered_by,
            start,
            proportional_gain=1.5,
            low=low,
            end=high,
            high=high,
            most=1.0,
            back=1.0,
        )
    if cost.unit != "steps":
        raise UsageError(
            f"--penalty.target-steps comes with the cost {name}, which no weight of it turns into "
            "fewer steps.",
            f"It is in {cost.unit}, and says how the gate should decide rather than that thinking "
            f"costs: {name} prefers no depth that could be moved.",
            "Use a cost in steps (--cost.kind ExpectedSteps, for rules that spread their mass), a "
            "prior with a mean (--cost.kind GeometricPrior), or another rule, such as "
            "--halting.kind GravesACT.",
        )
    return Actuator(cost, weight or cost.default_penalty)
