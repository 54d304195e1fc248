"""Schedules that begin with a linear warm-up."""

import math
from abc import abstractmethod

from halting.errors import UsageError
from training.optimizers.schedules.schedule import Schedule


class _Warmup(Schedule):
    """A linear rise over `warmup` updates, then what `after` says of the rest."""

    def __init__(self, warmup: int):
        if warmup < 0:
            raise UsageError(
                f"--schedule.warmup {warmup}.",
                "It counts updates.",
                "Write 0 or more.",
            )
        self.warmup = warmup

    @abstractmethod
    def after(self, progress: float) -> float:
        """The factor after the warm-up.

        Args:
            progress: 0 at the end of the warm-up, 1 at the last update.
        """

    def __call__(self, update: float, updates: int) -> float:
        if update < self.warmup:
            return (update + 1) / self.warmup
        return self.after(min(1.0, (update - self.warmup) / max(1, updates - self.warmup)))

    def rate(self, peak: float, update: float, updates: int) -> float:
        if update < self.warmup:
            return peak * (update + 1) / self.warmup  # so that the last bit does not move
        return super().rate(peak, update, updates)


class _WarmupDecay(_Warmup):
    def __init__(self, warmup: int, final_fraction: float):
        super().__init__(warmup)
        if not 0.0 <= final_fraction <= 1.0:
            raise UsageError(
                f"--schedule.final-fraction {final_fraction}.",
                "It is where the learning rate ends, as a share of its peak.",
                "Write a number from 0 to 1.",
            )
        self.final_fraction = final_fraction

    def _down(self, height: float) -> float:
        """A factor that is 1 at height 1 and `final_fraction` at height 0."""
        return self.final_fraction + (1 - self.final_fraction) * height


class WarmupCosine(_WarmupDecay):
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017) down to a fraction of the
    peak at the last update.

    Args:
        warmup: updates over which the learning rate rises to its peak.
        final_fraction: where it ends, as a fraction of the peak.
    """

    def __init__(self, warmup: int = 100, final_fraction: float = 0.1):
        super().__init__(warmup, final_fraction)

    def after(self, progress: float) -> float:
        return self._down((1 + math.cos(math.pi * progress)) / 2)


class WarmupLinear(_WarmupDecay):
    """Linear warm-up, then a straight line down to a fraction of the peak at the last update.

    Args:
        warmup: updates over which the learning rate rises to its peak.
        final_fraction: where it ends, as a fraction of the peak.
    """

    def __init__(self, warmup: int = 100, final_fraction: float = 0.1):
        super().__init__(warmup, final_fraction)

    def after(self, progress: float) -> float:
        return self._down(1 - progress)


class WarmupConstant(_Warmup):
    """Linear warm-up, then the peak to the end.

    Args:
        warmup: updates over which the learning rate rises to its peak.
    """

    def __init__(self, warmup: int = 100):
        super().__init__(warmup)

    def after(self, progress: float) -> float:
        return 1.0


class WarmupStableDecay(_WarmupDecay):
    """Linear warm-up, then the peak, then a straight line down over the last part of the run (Hu et
    al. 2024, WSD).

    Args:
        warmup: updates over which the learning rate rises to its peak.
        decay_share: the part of what follows the warm-up in which it falls.
        final_fraction: where it ends, as a fraction of the peak.

    Raises:
        UsageError: for a share outside of 0 … 1.
    """

    def __init__(self, warmup: int = 100, decay_share: float = 0.2, final_fraction: float = 0.1):
        super().__init__(warmup, final_fraction)
        if not 0.0 < decay_share <= 1.0:
            raise UsageError(
                f"--schedule.decay-share {decay_share}.",
                "It is the part of the run in which the learning rate falls.",
                "Write a number above 0, at most 1.",
            )
        self.decay_share = decay_share

    def after(self, progress: float) -> float:
        return self._down(min(1.0, (1 - progress) / self.decay_share))
