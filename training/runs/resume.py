"""Where a run goes on: at its newest whole checkpoint, or at the one that is named."""

import shutil
from itertools import count
from pathlib import Path

from halting.errors import UsageError
from training.checkpoints import checkpoint, manifest
from training.console.screen import Screen
from training.distributed import collectives
from training.runs.data_file import DATA
from training.runs.metrics import FILE
from training.runs.run_path import RunPath

_NOTHING = "There is nothing to go on from; starting from scratch in silence would hide that."
_OF_THE_END = ("final", "summary.json", "report.md", "ponder_map.*")


def check_resumable(run: RunPath) -> None:
    """Raises UsageError for a run without the checkpoint that is named, or without any."""
    if run.checkpoint() is None and not checkpoint.found(run.home / "checkpoints"):
        raise UsageError(
            f"{run.home} holds no checkpoint.", _NOTHING, "Start anew: ponder train RECIPE"
        )


def resume_point(run: RunPath, screen: Screen) -> Path:
    """The checkpoint to go on from, on all ranks the same. Where none is named, damaged ones are
    told of and passed over. Where one is, what the run came to after it is set aside, as a run
    folder of its own within the run's.

    Raises:
        UsageError: where no checkpoint is whole, or the named one is not.
    """
    kept, wrong = whole_checkpoint(run)
    for text in wrong:
        screen.warn(f"damaged, and passed over: {text}")
    if run.which is None:
        return kept
    aside = collectives.broadcast_object(
        _set_aside(run.home, kept) if collectives.rank() == 0 else None
    )
    if aside is not None:
        screen.say(f"what came after update {checkpoint.update_of(kept)} is kept in {aside}")
    return kept


def whole_checkpoint(run: RunPath) -> tuple[Path, list[str]]:
    """The checkpoint that is named, or the newest whole one, and what is wrong with those that are
    newer, in words; nothing is changed. Called by all ranks.

    Raises:
        UsageError: where no checkpoint is whole, or the named one is not.
    """
    named = run.checkpoint()
    if named is None:
        kept, wrong = checkpoint.newest_whole(run.home / "checkpoints")
        if kept is None:
            raise UsageError(
                f"{run.home} holds no whole checkpoint: {' | '.join(wrong)}.",
                _NOTHING,
                "Bring the files back from a copy, or start anew: ponder train RECIPE",
            )
        return kept, wrong
    if damage := manifest.damage(named):
        raise UsageError(
            f"{named} is damaged: {'; '.join(damage[:3])}.",
            "A run goes on only from what was written whole.",
            f"Bring the files back from a copy, or name another: --resume {run.home}",
        )
    return named, []


def _set_aside(home: Path, named: Path) -> Path | None:
    """Moves what a run came to after a checkpoint into a folder that is a run folder itself; None
    where there is nothing."""
    there = checkpoint.found(named.parent)
    later = there[there.index(named) + 1 :]
    ended = [path for pattern in _OF_THE_END for path in home.glob(pattern)]
    if not later and not ended:
        return None
    aside = next(
        path for number in count(1) if not (path := home / f"set-aside-{number:03d}").exists()
    )
    (aside / "checkpoints").mkdir(parents=True)
    for name in ("config.json", DATA, FILE):
        if (home / name).exists():
            shutil.copyfile(home / name, aside / name)
    for path in later:
        path.rename(aside / "checkpoints" / path.name)
    for path in ended:
        path.rename(aside / path.name)
    return aside
