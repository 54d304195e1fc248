"""What a budget moves: the weight of a cost in steps, or the mean of a prior."""

import math
from dataclasses import dataclass, field

from halting.costs.cost import PonderCost
from halting.errors import UsageError

_FACTOR_DOWN, _FACTOR_UP = 100.0, 100.0  # how far a weight may go from where it starts
_LEAST_ABOVE_ONE = 0.02  # a geometric prior's mean stays above 1


@dataclass(frozen=True)
class Lever:
    """One knob, as a pressure towards fewer steps: the higher, the fewer. Pressures are natural logarithms, so that
    equal changes are equal factors.

    Args:
        cost: whose knob it is.
        weight: the coefficient to start from; where a prior's mean is moved, the coefficient.
        knob: the attribute of the cost that is moved; None for the coefficient.
        start: the pressure at the start.
        low, high: its ends. A coefficient at the low end counts as 0.
    """

    cost: PonderCost = field(repr=False)
    weight: float
    knob: str | None
    start: float
    low: float
    high: float

    @property
    def waits(self) -> bool:
        """Whether there is no pressure until the task is being learned: a prior is needed from the start."""
        return self.knob is None

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
        return 0.0 if pressure <= self.low else math.exp(pressure)

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
        high = -math.log(_LEAST_ABOVE_ONE)
        return Lever(cost, weight, cost.steered_by, start, min(start, -math.log(1000.0)), high)
    if cost.unit != "steps":
        raise UsageError(
            f"--penalty.target-steps comes with the cost {name}, which no weight of it turns into fewer steps.",
            f"It is in {cost.unit}, and says how the gate should decide rather than that thinking costs: {name} "
            "prefers no depth that could be moved.",
            "Use a cost in steps (--cost.kind ExpectedSteps, for rules that spread their mass), a prior with a mean "
            "(--cost.kind GeometricPrior), or another rule, such as --halting.rule GravesACT.",
        )
    weight = weight or cost.default_penalty
    start = math.log(weight)
    return Lever(cost, weight, None, start, start - math.log(_FACTOR_DOWN), start + math.log(_FACTOR_UP))
