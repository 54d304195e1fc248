"""Checkpoints: written beside, then renamed, and everything that an exact resume needs is in them.

How weights and the optimizer's state lie in their files is `training.engine.checkpoint_format`'s;
`docs/checkpoints.md` lists all files."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from halting.errors import UsageError
from training.checkpoints import manifest
from training.checkpoints.random_state import random_state, restore_random_state, seed_rank
from training.distributed import collectives
from training.distributed.last_sign import LAST_SIGN
from training.engine.engine import Engine
from training.engine.state_access import own_elements

_NAME = re.compile(r"update-(\d+)")
PARTIAL = ".partial-"
_REPLACED = ".replaced-"
_NEARLY_NOTHING = 1 << 16
_DEEP_ENOUGH = 1.1  # mean steps: below, almost all tokens stop at step 1


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Args:
        update: updates done.
        examples: training examples read, over all ranks: the next update starts at this example.
        train_seconds: spent training, evaluation left out.
        penalty: state of the ponder penalty.
        best: the best validation accuracy so far.
        best_checkpoint: the best evaluation by `--best-by`: state of a `BestTracker`.
        dealing: what the dealer has learned.
        flops: floating-point operations of training so far, over all ranks, by the steps that
            tokens took.
        mean_steps: executed steps a token in the last update; None before the first.
        first_loss: the task's loss at the first update, nats; None before it.
        recoveries: how often the run was taken back from a collapse.
        skipped: how many of the updates changed nothing, because loss or gradient was not finite.
        skipped_in_a_row: how many of them were the last ones.
    """

    update: int = 0
    examples: int = 0
    train_seconds: float = 0.0
    penalty: dict | None = None
    best: float = -1.0
    best_checkpoint: dict | None = None
    dealing: dict | None = None
    flops: float = 0.0
    mean_steps: float | None = None
    first_loss: float | None = None
    recoveries: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


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


def newest_whole(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose every file is as it was written, and what is wrong with those
    that are newer, in words. Called by all ranks, which read them together and come to one
    verdict."""
    first = collectives.rank() == 0
    kept = collectives.broadcast_object(found(checkpoints) if first else None)
    unfinished = collectives.broadcast_object(
        sorted(checkpoints.glob(f"{PARTIAL}*")) if first else None
    )
    wrong = [f"{path}: it was never finished" for path in unfinished]
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
    keep_best: int | None = None,
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
        keep_best: and that of this update.

    Raises:
        UsageError: where the disk is full, or cannot be written to.
    """
    LAST_SIGN.mark(f"saving after update {progress.update}")
    final = folder_of(checkpoints, progress.update)
    partial = checkpoints / f"{PARTIAL}{final.name}"

    def prepare() -> None:
        if collectives.rank() == 0:
            _tidy(checkpoints)
            partial.mkdir(parents=True)

    def write_own() -> None:
        torch.save(random_state(), partial / f"random-{collectives.rank():04d}.pt")
        if collectives.rank() == 0:
            shape = {
                "ranks": collectives.world_size(),
                "stage": engine.stage,
                "shapes": shapes(engine),
            }
            text = json.dumps({**asdict(progress), **shape}, indent=1)
            (partial / "progress.json").write_text(text, encoding="utf-8")

    for step in (prepare, lambda: engine.save(partial), write_own, lambda: manifest.write(partial)):
        _together(step, partial, checkpoints)
    if collectives.rank() == 0:
        if final.exists():  # only one that was found damaged: this run would have gone on from it
            final.rename(checkpoints / f"{_REPLACED}{final.name}")
        partial.rename(final)
        manifest.sync_folder(checkpoints)
        spared = [last_good(checkpoints)] if keep_good else []
        spared += [folder_of(checkpoints, keep_best)] if keep_best is not None else []
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
    last = (
        f"The last whole checkpoint is {kept[-1]}."
        if kept
        else "No checkpoint had been written before."
    )
    raise UsageError(
        f"A checkpoint could not be written into {checkpoints}: {says}.",
        f"Training on without being able to save would lose the work. {last}",
        f"Make room, then go on: … --resume {checkpoints.parent}; --keep-last 1 needs the least of "
        "it.",
    ) from failure


def _drop_old(
    newest: Path, keep_last: int, keep_every: int | None, spared: list[Path | None]
) -> None:
    """Removes what is older than the last few. Those of later updates than the one just written do
    not count: the run has passed them over as damaged, and they must not take the places of whole
    ones."""
    checkpoints = newest.parent
    there = found(checkpoints)
    for old in there[: there.index(newest) + 1][: -max(1, keep_last)]:
        update = update_of(old)
        if old not in spared and (keep_every is None or not update or update % keep_every):
            _remove(old)
    _tidy(checkpoints)


def last_good(checkpoints: Path) -> Path | None:
    """The newest checkpoint that halting had not collapsed in: whose last update took its tokens
    well beyond step 1, or that was written before the first."""
    for path in reversed(found(checkpoints)):
        steps = json.loads((path / "progress.json").read_text(encoding="utf-8")).get("mean_steps")
        if steps is None or steps > _DEEP_ENOUGH:
            return path
    return None


def best(checkpoints: Path) -> Path | None:
    """The best checkpoint by `--best-by`, as the newest one has it written down; None where there
    is none."""
    there = found(checkpoints)
    if not there:
        return None
    about = json.loads((there[-1] / "progress.json").read_text(encoding="utf-8"))
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
        return "the disk is full"  # torch tells of it by a RuntimeError
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
    about = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    ranks = about.pop("ranks")
    _ = about.pop("stage")
    saved = about.pop("shapes")
    check_same_model(saved, shapes(engine), folder)
    engine.load(folder)
    rank = collectives.rank()
    of_rank = rank if rank < ranks else 0
    restore_random_state(torch.load(folder / f"random-{of_rank:04d}.pt", weights_only=True))
    if rank >= ranks:  # what rank 0 draws next differs from update to update
        seed_rank(int(torch.randint(2**31, ())), rank)
    return Progress(**about)


def shapes(engine: Engine) -> dict[str, list[int]]:
    """The name and shape of every parameter, whole even where it is sharded."""
    return {
        name: list(getattr(p, "ds_shape", p.shape)) for name, p in engine.model.named_parameters()
    }


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
