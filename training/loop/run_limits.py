"""How far a run goes: its updates, seconds and floating-point operations, and where its schedules
stand on the way."""

from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.amounts import in_seconds, short_number


class RunLimits:
    """The end of a run, and the update at which its schedules stand.

    With `stretch_to` "updates" both follow the update number, and a limit that is met first cuts
    the schedules off. With "limit" a run goes on until its limit is met, and its schedules are
    stretched over that: at 40 % of the limit they stand where a run by updates has them at 40 % of
    its updates. So the same limit means the same to runs of unequal speed or cost: each has its
    whole warm-up and its whole decay.

    Args:
        config: the run.
    """

    def __init__(self, config: RunConfig):
        self.config = config
        self.stretched = config.limits.stretch_to == "limit"

    def scheduled(self, progress: Progress, seconds: float) -> float:
        """The update number, counted from 0, that learning rate and penalty go by.

        Args:
            progress: where the run stands.
            seconds: trained so far, as the ranks agree.
        """
        if not self.stretched:
            return progress.update
        return min(self._share(progress, seconds), 1.0) * self.config.updates

    def fraction(self, progress: Progress, seconds: float) -> float:
        """The share of the run that is done, 0 to 1."""
        by_updates = 0.0 if self.stretched else progress.update / self.config.updates
        return min(1.0, max(by_updates, self._share(progress, seconds)))

    def reached(self, progress: Progress, seconds: float) -> str | None:
        """Which limit has been reached, in words; None while none has."""
        config = self.config
        if config.limits.time_limit is not None and seconds >= config.limits.time_limit:
            return f"after {in_seconds(config.limits.time_limit)}"
        if config.limits.flops_limit is not None and progress.flops >= config.limits.flops_limit:
            return f"after {short_number(config.limits.flops_limit)} FLOPs"
        return None

    def done(self, progress: Progress) -> bool:
        """Whether the updates are done; never where a limit says when."""
        return not self.stretched and progress.update >= self.config.updates

    def _share(self, progress: Progress, seconds: float) -> float:
        config = self.config
        shares = (
            [seconds / config.limits.time_limit] if config.limits.time_limit is not None else []
        )
        shares += (
            [progress.flops / config.limits.flops_limit]
            if config.limits.flops_limit is not None
            else []
        )
        return max(shares, default=0.0)
