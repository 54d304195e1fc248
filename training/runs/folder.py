"""The folder of a run: made once, never overwritten, and held by one training at a time."""

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch

from halting.errors import UsageError
from training.checkpoints import checkpoint
from training.config.run_config import RunConfig
from training.console.command_text import command_text
from training.console.screen import Screen
from training.distributed import collectives
from training.runs import writer_lock
from training.runs.writer_lock import WriterLock

_EARLY = frozenset(
    (
        *("config.json", "data.json", "log.txt", "metrics.jsonl", "checkpoints"),
        *("csv", "tensorboard", "wandb"),
    )
)
_EARLY_TOO = (f"{writer_lock.FILE}*", ".config.json", ".shared-*", "events.out.tfevents.*")
"""What a training writes before its first checkpoint."""


@contextlib.contextmanager
def writing_into(
    config: RunConfig, resumed: Path | None, device: torch.device, screen: Screen
) -> Iterator[tuple[Path, WriterLock]]:
    """The folder of a run, and its lock, while it is trained; called by all ranks. A folder that
    was made here and comes to no checkpoint, since the start is refused or interrupted, is removed
    again.

    Args:
        config: the run.
        resumed: the folder of a run that goes on; None makes one.
        device: of this rank.
        screen: told when somebody has to be waited for.

    Raises:
        UsageError: on every rank, where there can be no such folder, the ranks don't share it, or
            somebody trains in it.
    """
    folder = create(config, device) if resumed is None else resumed
    check_shared_folder(folder)
    check_plain_files(folder)
    lock = writer_lock.hold(folder, screen.say)
    try:
        if resumed is None:
            _begin(folder)
        yield folder, lock
    except (UsageError, KeyboardInterrupt, SystemExit):
        if resumed is None and collectives.rank() == 0 and is_leftover(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def check_plain_files(folder: Path) -> None:
    """Checks that what a training would write to is in the folder: a link leads to a file of
    somebody else, and a pipe would be waited for.

    Raises:
        UsageError: for the first that is not. (A link to a folder is the user's choice of a disk.)
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return  # the lock says what is wrong with it
    for path in entries:
        linked = path.is_symlink() and not path.is_dir()
        odd = linked or not (path.is_file() or path.is_dir())
        if odd and os.path.lexists(path):  # what another rank has just removed is none
            raise UsageError(
                f"{path} is {'a link' if linked else 'no file'}.",
                "A training writes into the files of its run folder, and into no others.",
                "Remove it, or put the file itself in its place.",
            )


def is_leftover(folder: Path) -> bool:
    """Whether a folder is what a training leaves that was ended before its first checkpoint, and
    holds nothing else."""
    try:
        names = {path.name for path in folder.iterdir()}
        early = {path.name for each in _EARLY_TOO for path in folder.glob(each)}
        kept = [path.name for path in (folder / "checkpoints").glob("*")]
        written = "config.json" in names and "recipe" in json.loads(
            (folder / "config.json").read_bytes()
        )
    except (OSError, ValueError, TypeError):
        return False
    only = names <= early | (_EARLY if written else {"log.txt"})
    unfinished = all(name.startswith(checkpoint.PARTIAL) for name in kept)
    return only and unfinished and not folder.is_symlink()


def _begin(folder: Path) -> None:
    """Takes away what a training has left that was killed; called by all ranks.

    Raises:
        UsageError: on every rank, where a training has come to more since.
    """
    mine = collectives.rank() != 0 or is_leftover(folder)
    if not collectives.broadcast_object(mine):
        raise exists_already(folder)
    if collectives.rank() == 0:
        _clear(folder)


def _clear(folder: Path) -> None:
    """Empties a leftover, but for the lock."""
    for path in folder.iterdir():
        if path.name == writer_lock.FILE:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def create(config: RunConfig, device: torch.device) -> Path:
    """Makes the run's folder, `output/name`, or `output/recipe-001` with the next free number;
    called by all ranks. One of the name that a training has left before its first checkpoint is
    taken.

    Raises:
        UsageError: on every rank, where another folder of this name exists already or none can be
            made.
    """
    failure: UsageError | None = None
    number = 0
    base = base_name(config)
    if collectives.rank() == 0:
        try:
            number = _make(config, base)
        except UsageError as error:
            failure = error
    if collectives.any_rank(failure is not None, device):
        raise failure or UsageError(
            "The run folder could not be made.",
            "The first rank says why.",
            "Do what it says, and start again.",
        )
    number = int(sum(collectives.all_gather(number, device)))
    return Path(config.output) / (base if config.name is not None else f"{base}-{number:03d}")


def check_shared_folder(folder: Path, seconds: float = 5.0) -> None:
    """Refuses a run folder that is not the same one on all machines; called by all ranks, before
    anything is in it.

    Args:
        folder: of the run.
        seconds: how long what rank 0 makes may take to appear elsewhere.

    Raises:
        UsageError: on every rank.
    """
    if collectives.world_size() == 1:
        return
    mark = folder / str(collectives.broadcast_object(f".shared-{uuid.uuid4().hex}"))
    if collectives.rank() == 0:
        mark.touch()
    collectives.barrier()
    until = time.monotonic() + seconds
    while not (there := mark.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    own = None if there else f"rank {collectives.rank()} on {socket.gethostname()}"
    without = [other for other in collectives.all_gather_object(own) if other is not None]
    if collectives.rank() == 0:
        mark.unlink()
        with contextlib.suppress(OSError):
            if without:
                folder.rmdir()  # empty where it was made for this run
    if without:
        raise UsageError(
            f"{folder.absolute()} is not the same folder for {', '.join(without[:8])} as for rank "
            "0.",
            "All ranks write into the run folder: weights by rank 0, and each its own random "
            "state.",
            "Start all machines in the same folder of a file system that they share, or write "
            "--output FOLDER there.",
        )


def next_free(config: RunConfig) -> Path:
    """The folder that `create` would make; called where one process alone decides.

    Raises:
        UsageError: where a folder of this name exists already, and is no leftover.
    """
    output = Path(config.output)
    base = base_name(config)
    if config.name is not None:
        if (output / base).exists() and not is_leftover(output / base):
            raise exists_already(output / base)
        return output / base
    return next(
        path for number in count(1) if not (path := output / f"{base}-{number:03d}").exists()
    )


def base_name(config: RunConfig) -> str:
    """What a folder of this run is called before its number: its own name, else the recipe's."""
    if config.name is not None:
        return config.name
    where, _, function = config.recipe.rpartition(":")
    stem = Path(where).stem.rpartition(".")[2]
    return (stem if function == "recipe" else f"{stem}-{function}") if where else config.recipe


def _make(config: RunConfig, base: str) -> int:
    """Makes the folder on this rank; its number, 0 for one with a name of its own."""
    output = Path(config.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if config.name is not None:
            if not is_leftover(output / base):
                (output / base).mkdir()
            return 0
        number = 1
        while True:
            try:
                (output / f"{base}-{number:03d}").mkdir()
                return number
            except FileExistsError:
                number += 1
    except FileExistsError as error:
        raise exists_already(Path(error.filename)) from None
    except OSError as error:
        raise cannot_be_made(output, error.strerror) from error


def cannot_be_made(output: Path, says: str | None) -> UsageError:
    """That no folder can be made in this one, as the system says."""
    return UsageError(
        f"No run folder can be made in {output}: {says}.",
        "A run keeps its config, figures and checkpoints there.",
        "Write an --output that you may write to.",
    )


def exists_already(folder: Path) -> UsageError:
    """That a folder is there which is no leftover."""
    return UsageError(
        f"{folder} exists already.",
        "A run never writes into what is there.",
        "Write another --name, go on with that run "
        f"({command_text('ponder', 'train', '--resume', folder)}), or remove it.",
    )
