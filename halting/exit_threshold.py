"""The one option of a rule that says how early it lets tokens go, from safe to cheap."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExitThreshold:
    """The option of a rule that moves its exit after training: at one end nobody leaves early, at
    the other nearly everybody leaves at once.

    Args:
        option: its name, an argument of the rule's class.
        safest: where tokens leave latest.
        cheapest: where they leave earliest.
        scale: how values lie between the two: "ratio", each so many times the one before; "share",
            likewise for 1 − value, so that shares near 1 lie close; "count", whole numbers.
    """

    option: str
    safest: float
    cheapest: float
    scale: Literal["ratio", "share", "count"] = "ratio"

    def at(self, fraction: float) -> float:
        """The value at this fraction, 0 to 1, of the path from the safest to the cheapest; to six
        digits."""
        if self.scale == "count":
            return float(round(self.safest + fraction * (self.cheapest - self.safest)))
        if self.scale == "share":
            return round(1 - _between(1 - self.safest, 1 - self.cheapest, fraction), 7)
        return float(f"{_between(self.safest, self.cheapest, fraction):.6g}")


def _between(low: float, high: float, fraction: float) -> float:
    return low * (high / low) ** fraction


SHARE_LEFT = ExitThreshold("epsilon", 1e-6, 0.999)
"""ε: leave once no more than this share is left."""


def share_reached(option: str) -> ExitThreshold:
    """Leave once a share, or a probability, has reached the option's value."""
    return ExitThreshold(option, 1 - 1e-6, 1e-3, "share")
