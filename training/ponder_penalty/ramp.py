"""A penalty that rises through one training, so that the run passes along the front of accuracy and
compute."""

from halting.errors import UsageError
from training.ponder_penalty.scheduled import ScheduledPenalty

FLAG = "--penalty.ramp"


def check_ramp(ramp: tuple[float, float], with_target: bool) -> None:
    """Raises UsageError for a ramp that cannot rise by equal factors, and for one beside a
    target."""
    first, last = ramp
    if not 0 < first < last:
        raise UsageError(
            f"{FLAG} is {first:g} {last:g}.",
            "The penalty rises from the first number to the second by an equal factor each update, "
            "which 0 and a fall do not allow: a model that has collapsed does not come back.",
            f"Write two rising numbers above 0, such as {FLAG} 0.001 0.1.",
        )
    if with_target:
        raise UsageError(
            f"{FLAG} {first:g} {last:g} comes with --penalty.target-steps.",
            "One traces all depths in turn, the other holds one.",
            "Drop one of them.",
        )


class RampPenalty(ScheduledPenalty):
    """Over the warm-up linearly from 0 to `first`, from there to `last` at the run's end by an
    equal factor an update.

    Args:
        first, last: the coefficients.
        warmup: updates before the ramp.
        updates: how long the run is.
    """

    def __init__(self, first: float, last: float, warmup: int, updates: int):
        self.first = first
        self.last = last
        self.warmup = warmup
        self.updates = updates

    def coefficient(self, update: float) -> float:
        if update < self.warmup:
            return self.first * update / self.warmup
        share = min(1.0, (update - self.warmup) / max(1, self.updates - 1 - self.warmup))
        return self.first * (self.last / self.first) ** share
