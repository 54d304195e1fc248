"""What a training refuses before its first update, asked without writing anything: by a training
that begins and by a dry run alike."""

import errno
import os
from pathlib import Path

from torch import nn

from halting.errors import UsageError
from training.checkpoints import checkpoint
from training.checkpoints.progress import read_progress
from training.config.run_config import RunConfig
from training.console.amounts import counted
from training.runs import folder as run_folder
from training.runs.data_file import check_data_of
from training.runs.resume import whole_checkpoint
from training.runs.run_path import RunPath
from training.tasks.task import Task


def check_batch_shares(config: RunConfig, ranks: int) -> None:
    """Refuses a batch that the ranks cannot share."""
    whole = ranks * config.accumulation
    if config.batch_size % whole:
        raise UsageError(
            f"--batch-size {config.batch_size} cannot be shared by {counted(ranks, 'rank')} with "
            f"--accumulation {config.accumulation}.",
            "Each takes an equal share of the examples of an update.",
            f"Write --batch-size {-(-config.batch_size // whole) * whole}.",
        )


def check_folder_can_be_made(config: RunConfig) -> None:
    """Refuses an output and a name under which no run folder can be made."""
    output = Path(config.output)
    there = next(
        each for each in (output.absolute(), *output.absolute().parents) if os.path.lexists(each)
    )
    if not there.is_dir():
        if there == output.absolute():
            raise run_folder.exists_already(output)
        raise run_folder.cannot_be_made(output, os.strerror(errno.ENOTDIR))
    run_folder.next_free(config)
    if not os.access(there, os.W_OK | os.X_OK):
        raise run_folder.cannot_be_made(output, os.strerror(errno.EACCES))


def check_can_go_on(run: RunPath, model: nn.Module) -> list[str]:
    """Refuses a run that cannot go on with this model; gives what of it is damaged and would be
    passed over, in words.

    Args:
        run: the run, or one of its checkpoints.
        model: built from the config to go on with; its weights are not looked at.
    """
    run_folder.check_plain_files(run.home)
    kept, wrong = whole_checkpoint(run)
    checkpoint.check_same_model(read_progress(kept).shapes, checkpoint.shapes_of(model), kept)
    return wrong


def check_data(run: RunPath, task: Task, allow_changed_data: bool) -> None:
    """Refuses to go on from a named checkpoint that was trained on other data."""
    if (named := run.checkpoint()) and not allow_changed_data:
        check_data_of(named, task)
