"""What a budget moves: the weight of a cost in steps, or the mean of a prior."""

import math
from dataclasses import dataclass, field

from halting.costs.cost import PonderCost
from halting.errors import UsageError

_HIGHEST = 100.0  # times the weight that was configured
_LINEAR = 0.1  # of that weight: below it a pressure moves the weight by equal amounts, above it by equal factors
_LEAST_ABOVE_ONE = 0.02  # a geometric prior's mean stays above 1


@dataclass(frozen=True)
class Lever:
    """One knob, as a pressure towards fewer steps: the higher, the fewer.

    A weight is s·sinh(pressure), with s a tenth of the weight that was configured: equal changes of pressure are equal
    factors where it is large, and it passes through 0 where there is none. Below 0 it pays for steps. A prior's mean is
    1 + e^(−pressure).

    Args:
        cost: whose knob it is.
        weight: the coefficient that was configured, which stays where a prior's mean is moved.
        knob: the attribute of the cost that is moved; None for the coefficient.
        start: the pressure at the start.
        low, high: its ends.
        back: the low end where depth that was taken away has to be given back.
    """

    cost: PonderCost = field(repr=False)
    weight: float
    knob: str | None
    start: float
    low: float
    high: float
    back: float

    def pull(self, pressure: float) -> float:
        """Sets the knob; gives the coefficient."""
        if self.knob is not None:
            setattr(self.cost, self.knob, self.value(pressure))
            return self.weight
        return self.value(pressure)

    def value(self, pressure: float) -> float:
        """What the knob shows at a pressure."""
        if self.knob is not None:
            return 1.0 + math.exp(-pressure)
        return _LINEAR * self.weight * math.sinh(pressure)

    def named(self, pressure: float) -> str:
        """`penalty 0.012`, `prior_steps 3.4`."""
        return f"{self.knob or 'penalty'} {self.value(pressure):.3g}"


def lever_of(cost: PonderCost | None, weight: float, target: float, rule: str) -> Lever:
    """What moves the mean ponder under this cost.

    Args:
        cost: the run's.
        weight: its coefficient, as configured.
        target: in steps; a prior's mean starts there.
        rule: the halting rule's name, for messages.

    Raises:
        UsageError: where nothing does.
    """
    if cost is None:
        raise UsageError(
            f"--penalty.target-steps comes with --halting.rule {rule}, which has no ponder cost.",
            "The penalty weighs a cost of thinking; without one there is nothing to move, and who leaves when is "
            "settled by the rule's own options.",
            "Set the rule's threshold or depth instead, or use a rule whose cost is in steps, such as --halting.rule "
            "GravesACT.",
        )
    name = type(cost).__name__
    if cost.steered_by is not None:
        start = -math.log(max(target - 1.0, _LEAST_ABOVE_ONE))
        low, high = min(start, -math.log(1000.0)), -math.log(_LEAST_ABOVE_ONE)
        return Lever(cost, weight, cost.steered_by, start, low, high, low)
    if cost.unit != "steps":
        raise UsageError(
            f"--penalty.target-steps comes with the cost {name}, which no weight of it turns into fewer steps.",
            f"It is in {cost.unit}, and says how the gate should decide rather than that thinking costs: {name} "
            "prefers no depth that could be moved.",
            "Use a cost in steps (--cost.kind ExpectedSteps, for rules that spread their mass), a prior with a mean "
            "(--cost.kind GeometricPrior), or another rule, such as --halting.rule GravesACT.",
        )
    weight = weight or cost.default_penalty
    high, back = math.asinh(_HIGHEST / _LINEAR), -math.asinh(1.0 / _LINEAR)
    return Lever(cost, weight, None, 0.0, 0.0, high, back)
