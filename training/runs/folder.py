"""The folder of a run: made once, never overwritten."""

import contextlib
import socket
import time
import uuid
from itertools import count
from pathlib import Path

import torch

from halting.errors import UsageError
from training.config.run_config import RunConfig
from training.console.command_text import command_text
from training.distributed import collectives


def create(config: RunConfig, device: torch.device) -> Path:
    """Makes the run's folder, `output/name`, or `output/recipe-001` with the next free number;
    called by all ranks.

    Raises:
        UsageError: on every rank, where a folder of this name exists already or none can be made.
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
        UsageError: where a folder of this name exists already.
    """
    output = Path(config.output)
    base = base_name(config)
    if config.name is not None:
        if (output / base).exists():
            raise _exists(output / base)
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
        raise _exists(Path(error.filename)) from None
    except OSError as error:
        raise UsageError(
            f"No run folder can be made in {output}: {error.strerror}.",
            "A run keeps its config, figures and checkpoints there.",
            "Write an --output that you may write to.",
        ) from error


def _exists(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} exists already.",
        "A run never writes into what is there.",
        "Write another --name, go on with that run "
        f"({command_text('ponder', 'train', '--resume', folder)}), or remove it.",
    )
