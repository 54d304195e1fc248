"""Which weights of which run a person means: RUN, RUN@500, RUN@best, or a checkpoint's folder."""

from dataclasses import dataclass
from pathlib import Path

from halting.errors import UsageError
from training.checkpoints import checkpoint, manifest

BEST = "best"
_MOST_DIGITS = 18  # of an update


@dataclass(frozen=True)
class RunPath:
    """A run folder, and perhaps one of its checkpoints.

    Args:
        home: the run folder.
        which: the update of a checkpoint, or "best" for the best one by `--best-by`; None for the
            final weights, and where a run goes on, for the newest checkpoint.
    """

    home: Path
    which: int | str | None = None

    @classmethod
    def parse(cls, given: str | Path) -> "RunPath":
        """Reads what a person wrote. A folder that is really called NAME@500 is that folder.

        Raises:
            UsageError: for RUN@ followed by something else than an update or "best".
        """
        path = Path(given)
        if path.parent.name == "checkpoints" and (update := checkpoint.update_of(path)) is not None:
            return cls(path.parent.parent, update)
        name, at, which = path.name.rpartition("@")
        if not at or path.exists():
            return cls(path)
        home = path.with_name(name)
        if which == BEST:
            return cls(home, BEST)
        if not which.isdecimal() or len(which) > _MOST_DIGITS:
            raise UsageError(
                f"{given} names no checkpoint: {which or 'nothing'} comes after the @.",
                "A checkpoint is named by its update, or as the best one of a run with --best-by.",
                f"Write {home}@500 or {home}@best, or {home} for the final weights.",
            )
        return cls(home, int(which))

    @property
    def name(self) -> str:
        """The folder's own name, with the checkpoint's where one is named: no path, whatever a file
        in the folder says."""
        of = "" if self.which is None else f"@{self.which}"
        return (self.home.resolve().name or "run") + of

    def checkpoint(self) -> Path | None:
        """The folder of the checkpoint that is named; None where none is.

        Raises:
            UsageError: where the run has not got that checkpoint.
        """
        if self.which is None:
            return None
        checkpoints = self.home / "checkpoints"
        kept = checkpoint.found(checkpoints)
        if self.which == BEST:
            if (best := checkpoint.best(checkpoints)) is None:
                raise UsageError(
                    f"{self.home} has no best checkpoint.",
                    "One is kept by a run that is told what to judge by, from its first "
                    "evaluation on.",
                    f"Train with --best-by accuracy, or name an update, such as {self.home}@"
                    f"{checkpoint.update_of(kept[-1]) if kept else 500}.",
                )
            return best
        wanted = checkpoint.folder_of(checkpoints, int(self.which))
        if wanted in checkpoint.unfinished(checkpoints):
            raise UsageError(
                f"{wanted} has no {manifest.FILE}.",
                "It is written last, so this checkpoint was never finished, or a file is lost; "
                "whether the others are whole cannot be told.",
                "Bring the file back from a copy, or name another checkpoint of "
                f"{', '.join(str(checkpoint.update_of(path)) for path in kept) or 'none'}.",
            )
        if wanted not in kept:
            there = ", ".join(str(checkpoint.update_of(path)) for path in kept) or "none"
            raise UsageError(
                f"{self.home} has no checkpoint of update {self.which}.",
                f"Those that it has are of the updates {there}; older ones are removed while it "
                "trains.",
                "Name one of these, or train with --keep-every to keep more.",
            )
        return wanted
