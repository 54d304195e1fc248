"""How a training ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halting.errors import UsageError
from training.checkpoints import checkpoint
from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.command_text import command_text
from training.engine.engine import Engine
from training.loop.update import Update


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training ended.

    Args:
        progress: where it stands.
        reason: "finished" and "limit" (of time, computation or patience) have trained all that
            was asked for; "stopped" was told to by a signal or another request; "lost" met too many
            updates that are not finite, or weights that give no answers; "collapsed" was told to
            stop when halting collapsed, or to recover and could not.
        says: why, in words.
        error: of a lost one, what to do about it.
        note: what the metrics keep; `says` where empty.
    """

    progress: Progress
    reason: Literal["finished", "limit", "stopped", "lost", "collapsed"]
    says: str = ""
    error: UsageError | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether the run came to nothing that is worth testing."""
        return self.reason in ("lost", "collapsed")


def collapsed(progress: Progress) -> TrainingOutcome:
    """Halting collapsed, for good or once more after recoveries."""
    tried = f" again, after {progress.recoveries} recoveries" if progress.recoveries else ""
    says = f"halting collapsed{tried}, at update {progress.update}"
    return TrainingOutcome(progress, "collapsed", says)


def lost_by_skipping(
    config: RunConfig, progress: Progress, checkpoints: Path, measured: Update
) -> TrainingOutcome:
    """Too many updates in a row were not finite."""
    return _lost(
        config,
        progress,
        checkpoints,
        f"Loss or gradient was not finite {config.limits.max_skipped} times in a row "
        f"(loss {measured.loss:.4g}, gradient norm {measured.gradient_norm:.4g}; "
        f"{progress.skipped} of all updates were skipped)",
        "Such an update changes nothing, so those after it would start from the same weights",
    )


def lost_weights(
    config: RunConfig, progress: Progress, checkpoints: Path, engine: Engine
) -> TrainingOutcome:
    """The weights give no finite answers; says which of them is the first that is not finite."""
    named = engine.model.named_parameters()
    first = next((name for name, each in named if not bool(each.isfinite().all())), None)
    which = f"{first} is not finite" if first is not None else "its weights are finite still"
    return _lost(
        config,
        progress,
        checkpoints,
        f"The training diverged: the model gives answers that are no numbers ({which})",
        "A checkpoint of them would be worth nothing",
    )


def _lost(
    config: RunConfig, progress: Progress, checkpoints: Path, what: str, why: str
) -> TrainingOutcome:
    kept = checkpoint.found(checkpoints)
    last = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint had been written"
    error = UsageError(
        f"{what}, at update {progress.update}.",
        f"{why}; {last}.",
        "Go on from it with smaller steps: "
        f"{command_text('ponder', 'train', '--resume', checkpoints.parent)} "
        f"--optimizer.learning-rate {config.optimizer.learning_rate / 3:.1g}; "
        f"--max-skipped {4 * config.limits.max_skipped} bears with more of them.",
    )
    says = f"{what} at update {progress.update}"
    return TrainingOutcome(progress, "lost", says, error, note=f"{what}; {last}")
