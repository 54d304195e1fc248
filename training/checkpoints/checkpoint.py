"""Checkpoints: written beside, then renamed, and everything that an exact resume needs is in them.

How weights and the optimizer's state lie in their files is `training.engine.checkpoint_format`'s;
`docs/checkpoints.md` lists all files."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from halting.errors import UsageError
from training.checkpoints import manifest
from training.checkpoints.progress import PROGRESS, Progress, progress_there, read_progress
from training.checkpoints.random_state import (
    read_random_state,
    restore_random_state,
    save_random_state,
    seed_rank,
)
from training.distributed import collectives
from training.distributed.last_sign import LAST_SIGN
from training.engine.engine import Engine
from training.engine.state_access import own_elements

_NAME = re.compile(r"update-(\d+)")
PARTIAL = ".partial-"
_REPLACED = ".replaced-"
_NEARLY_NOTHING = 1 << 16
_FULL = "the disk is full"
_DEEP_ENOUGH = 1.1  # mean steps: below, almost all tokens stop at step 1


def folder_of(checkpoints: Path, update: int) -> Path:
    """Where the checkpoint of an update stands."""
    return checkpoints / f"update-{update:06d}"


def update_of(folder: Path) -> int | None:
    """The update of a checkpoint, by its folder's name; None for another name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None


def found(checkpoints: Path) -> list[Path]:
    """The finished checkpoints, oldest first."""
    named = [
        (update, path)
        for path in checkpoints.glob("update-*")
        if (update := update_of(path)) is not None
    ]
    return [path for _, path in sorted(named) if (path / manifest.FILE).is_file()]


def unfinished(checkpoints: Path) -> list[Path]:
    """What stands there like a checkpoint and is none, since its manifest is missing."""
    return sorted(
        path
        for path in checkpoints.glob("update-*")
        if update_of(path) is not None and path.is_dir() and not (path / manifest.FILE).is_file()
    )


def newest_whole(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose every file is as it was written, and what is wrong with those
    that are newer, in words. Called by all ranks, which read them together and come to one
    verdict."""
    first = collectives.rank() == 0
    kept = collectives.broadcast_object(found(checkpoints) if first else None)
    cut_off, without = collectives.broadcast_object(
        (sorted(checkpoints.glob(f"{PARTIAL}*")), unfinished(checkpoints)) if first else None
    )
    wrong = [f"{path}: it was never finished" for path in cut_off]
    wrong += [f"{path}: its {manifest.FILE} is missing" for path in without]
    for path in reversed(kept):
        damage = manifest.damage(path)
        if not damage:
            return path, wrong
        wrong.append(f"{path}: {'; '.join(damage[:3])}{' …' if len(damage) > 3 else ''}")
    return None, wrong


def save(
    checkpoints: Path,
    engine: Engine,
    progress: Progress,
    keep_last: int,
    keep_every: int | None = None,
    keep_good: bool = False,
    keep_updates: Sequence[int] = (),
) -> Path:
    """Writes a checkpoint; called by all ranks. It appears under its name only when it is whole and
    on the disk, and older ones are removed only after that.

    Args:
        checkpoints: the folder that holds them.
        engine: what trains.
        progress: where it stands.
        keep_last: how many are kept.
        keep_every: those of every so many updates are kept as well.
        keep_good: so is the last good one, as `last_good` means it.
        keep_updates: and those of these updates.

    Raises:
        UsageError: where the disk is full, or cannot be written to.
    """
    LAST_SIGN.mark(f"saving after update {progress.update}")
    final = folder_of(checkpoints, progress.update)
    partial = checkpoints / f"{PARTIAL}{final.name}"

    def prepare() -> None:
        if collectives.rank() == 0:
            checkpoints.mkdir(exist_ok=True)  # in a run folder that is there
            _tidy(checkpoints)
            partial.mkdir()

    def write_own() -> None:
        save_random_state(partial / f"random-{collectives.rank():04d}.pt")
        if collectives.rank() == 0:
            shape = {
                "ranks": collectives.world_size(),
                "stage": engine.stage,
                "shapes": shapes(engine),
            }
            text = json.dumps({**asdict(progress), **shape}, indent=1)
            (partial / PROGRESS).write_text(text, encoding="utf-8")

    for step in (prepare, lambda: engine.save(partial), write_own, lambda: manifest.write(partial)):
        _together(step, partial, checkpoints)
    if collectives.rank() == 0:
        if final.exists():  # only one that was found damaged: this run would have gone on from it
            final.rename(checkpoints / f"{_REPLACED}{final.name}")
        partial.rename(final)
        manifest.sync_folder(checkpoints)
        spared = [last_good(checkpoints)] if keep_good else []
        spared += [folder_of(checkpoints, update) for update in keep_updates]
        _drop_old(final, keep_last, keep_every, spared)
    collectives.barrier()
    return final


def _together(step: Callable[[], None], partial: Path, checkpoints: Path) -> None:
    """One step of writing on all ranks. Where a write fails on any, all raise, and say what that
    one saw.

    Raises:
        UsageError: for a failed write; what else was raised, as it is.
    """
    failure: Exception | None = None
    try:
        step()
    except (OSError, RuntimeError) as error:
        failure = error
    told = collectives.all_gather_object(failure and _failed_write(failure, checkpoints))
    says = next((each for each in told if each), None)
    if says is None:
        if failure is not None:
            raise failure
        return
    if collectives.rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
    kept = found(checkpoints)
    last = f"The last whole checkpoint is {kept[-1]}." if kept else "No checkpoint is there."
    home = checkpoints.parent
    raise UsageError(
        f"A checkpoint could not be written into {checkpoints}: {says}.",
        f"Training on without being able to save would lose the work. {last}",
        f"{_way_out(says, home)}, then go on: … --resume {home}"
        if home.is_dir()
        else f"Bring {home} back from a copy and go on from there; else start anew.",
    ) from failure


def _way_out(says: str, home: Path) -> str:
    """What to do where a write fails."""
    if says == _FULL:
        return "Make room (--keep-last 1 needs the least of it)"
    if says == os.strerror(errno.EFBIG):
        return "Raise the limit on the size of files (ulimit -f unlimited)"
    return f"See that {home} can be written to"


def _drop_old(
    newest: Path, keep_last: int, keep_every: int | None, spared: list[Path | None]
) -> None:
    """Removes what is older than the last few. Those that are kept for what they are do not count
    among these; nor do those of later updates than the one just written: the run has passed them
    over as damaged, and they must not take the places of whole ones."""
    checkpoints = newest.parent
    there = found(checkpoints)
    older = [old for old in there[: there.index(newest)] if old not in spared]
    for old in older[: max(0, len(older) + 1 - max(1, keep_last))]:
        update = update_of(old)
        if keep_every is None or not update or update % keep_every:
            _remove(old)
    _tidy(checkpoints)


def last_good(checkpoints: Path) -> Path | None:
    """The newest checkpoint that halting had not collapsed in: whose last update took its tokens
    well beyond step 1, or that was written before the first."""
    return next(iter(good_ones(checkpoints)), None)


def good_ones(checkpoints: Path) -> Iterator[Path]:
    """Those like the last good one, newest first."""
    for path in reversed(found(checkpoints)):
        about = progress_there(path)
        steps = None if about is None else about.get("mean_steps")
        if about is not None and (steps is None or steps > _DEEP_ENOUGH):
            yield path


def best(checkpoints: Path) -> Path | None:
    """The best checkpoint by `--best-by`, as the newest one has it written down; None where there
    is none."""
    there = found(checkpoints)
    readable = (about for path in reversed(there) if (about := progress_there(path)) is not None)
    about = next(readable, {})
    update = (about.get("best_checkpoint") or {}).get("update")
    kept = None if update is None else folder_of(checkpoints, update)
    return kept if kept in there else None


def drop_after(kept: Path) -> None:
    """Removes the checkpoints of later updates."""
    there = found(kept.parent)
    for later in there[there.index(kept) + 1 :]:
        _remove(later)


def _remove(folder: Path) -> None:
    """Takes a checkpoint away: under another name first, so that one that is half removed is never
    taken for a whole one."""
    gone = folder.with_name(f"{_REPLACED}{folder.name}")
    folder.rename(gone)
    shutil.rmtree(gone)


def _tidy(checkpoints: Path) -> None:
    """Removes what killed runs have left: never finished, or replaced by a whole one."""
    for prefix in (PARTIAL, _REPLACED):
        for left in checkpoints.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)


def _failed_write(error: Exception, checkpoints: Path) -> str | None:
    """What a failed write means, in words; None where it was no write that failed."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    root = next((each for each in chain if isinstance(each, OSError)), None)
    if (
        getattr(root, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or _free_bytes(checkpoints) < _NEARLY_NOTHING
    ):
        return _FULL  # torch tells of it by a RuntimeError
    return None if root is None else root.strerror or str(root)


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return _NEARLY_NOTHING


def has_finite_weights(engine: Engine) -> bool:
    """Whether every weight is finite, on all ranks; each looks at what it holds."""
    held = [own_elements(parameter, collectives.rank()) for parameter in engine.model.parameters()]
    broken = not all(bool(tensor.isfinite().all()) for tensor in held)
    return not collectives.any_rank(broken, engine.device)


def load(folder: Path, engine: Engine) -> Progress:
    """Restores engine and random state; gives the progress. Called by all ranks, of any number and
    at any ZeRO stage.

    The position in the data is the global batch's, so it means the same to any number of ranks.
    Random numbers are drawn by each rank: with as many ranks as before, or fewer, each goes on
    where the rank of its number stood. Those that are new take seeds drawn from an old rank's
    state, the same at each try and none twice: with a copy of another's state two ranks would draw
    alike on different examples.

    Raises:
        UsageError: for a checkpoint of another model, or one that cannot be read.
    """
    written = read_progress(folder)
    check_same_model(written.shapes, shapes(engine), folder)
    engine.load(folder)
    rank = collectives.rank()
    of_rank = rank if rank < written.ranks else 0
    restore_random_state(read_random_state(folder / f"random-{of_rank:04d}.pt"))
    if rank >= written.ranks:  # what rank 0 draws next differs from update to update
        seed_rank(int(torch.randint(2**31, ())), rank)
    return written.progress


def shapes(engine: Engine) -> dict[str, list[int]]:
    """The name and shape of every parameter, whole even where it is sharded."""
    return shapes_of(engine.model)


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    """The same of a model."""
    return {name: list(getattr(p, "ds_shape", p.shape)) for name, p in model.named_parameters()}


def check_same_model(
    saved: dict[str, list[int]], wanted: dict[str, list[int]], source: Path
) -> None:
    """Raises UsageError naming the first parameter in which a checkpoint and a model differ."""
    for name in sorted({*saved, *wanted}):
        if saved.get(name) != wanted.get(name):
            raise UsageError(
                f"{source} is of another model: parameter {name} is {saved.get(name, 'missing')} "
                f"there and {wanted.get(name, 'missing')} here.",
                "Its weights cannot be put into this one.",
                "Resume with the run's own config (ponder train --resume RUN), or train from "
                "scratch.",
            )
