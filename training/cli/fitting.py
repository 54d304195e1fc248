"""`training.fit`: a training as a function call, in a script, a notebook or a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from halting.errors import UsageError
from training.checkpoints.random_state import random_state, restore_random_state
from training.config import code_trust
from training.config.run_config import RunConfig
from training.console.entry import in_three_parts
from training.distributed import process_group
from training.runs.loaded import Run, load_run, read_config
from training.runs.run_path import RunPath
from training.start import EndedTraining, train_run

_ONE_AT_A_TIME = threading.Lock()


class TrainingFailed(RuntimeError):
    """A training that came to nothing worth testing.

    Attributes:
        folder: the run folder, with what it measured and its last good checkpoint.
    """

    def __init__(self, message: str, folder: Path):
        super().__init__(message)
        self.folder = folder


class TrainingLost(TrainingFailed):
    """Losses, gradients or weights came to be no numbers."""


class TrainingCollapsed(TrainingFailed):
    """Halting collapsed, and the config said to stop then, or recovering did not help."""


class TrainingStopped(KeyboardInterrupt):
    """A Ctrl-C, or another signal, has ended a training between two updates; all is saved.

    It is a KeyboardInterrupt, so that a loop over trainings, or a notebook that runs all its cells,
    stops too.

    Attributes:
        folder: the run folder; `fit(resume=folder)` goes on, `load_run(folder)` reads it.
    """

    def __init__(self, message: str, folder: Path):
        super().__init__(message)
        self.folder = folder


def fit(
    config: RunConfig | None = None,
    *,
    resume: "Run | str | Path | None" = None,
    stop: threading.Event | None = None,
    allow_changed_data: bool = False,
    trust_code: bool = False,
) -> Run:
    """Trains a config as `ponder train` does, or goes on with a run, and reads the run back.

    It works in a notebook and in any thread, one training at a time in a process. Random numbers,
    torch's number of threads and the logs of libraries are afterwards what they were before. Under
    a launcher all ranks call it.

    Args:
        config: the run; with `resume`, the changed config to go on with, None for its own.
        resume: the run to go on with: from its newest checkpoint, or `"RUN@500"`, `"RUN@best"`.
        stop: set from another thread, it ends the training after the update in which it is set:
            saved, and returned as a run that can go on. (Signals reach the main thread alone.)
        allow_changed_data: a run may go on with other files than it was trained on.
        trust_code: as `load_run` takes it, of the run that goes on and those that it names.

    Returns:
        the run: its weights on the device where it trained, its metrics, its ponder maps.

    Raises:
        UsageError: for what cannot be, before anything is trained.
        TrainingLost: where the loss came to be no number.
        TrainingCollapsed: where halting collapsed and `on_collapse` does not only warn.
        TrainingStopped: a KeyboardInterrupt, after a signal; the run is saved and can go on.
    """
    with code_trust.trusting(trust_code):
        where = resume.folder if isinstance(resume, Run) else resume
        return _fit(config, where, stop, allow_changed_data)


def _fit(
    config: RunConfig | None,
    where: str | Path | None,
    stop: threading.Event | None,
    allow_changed_data: bool,
) -> Run:
    config = _checked(config, where)
    if config.launch.deepspeed_config is not None or config.report_to:
        process_group.check_not_started()
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise UsageError(
            "A training is going on in this process.",
            "Two would draw from the same random numbers, and neither could be repeated.",
            "Wait for its end, or start another process.",
        )
    try:
        with _undisturbed():
            ended = train_run(config, where, stop=stop, allow_changed_data=allow_changed_data)
    except UsageError:
        process_group.stop()
        raise
    finally:
        _ONE_AT_A_TIME.release()
    _raise_for(ended, stop)
    return load_run(ended.folder, ended.device, allow_changed_data)


def _checked(config: RunConfig | None, resume: str | Path | None) -> RunConfig:
    if config is None and resume is not None:
        return read_config(RunPath.parse(resume).home)
    if not isinstance(config, RunConfig):
        raise UsageError(
            f"fit was given {config!r}.",
            "It trains a RunConfig.",
            "Write fit(load_recipe('pointer_chase')), fit(RunConfig(...)) or fit(resume='RUN').",
        )
    return config


def _raise_for(ended: EndedTraining, stop: threading.Event | None) -> None:
    outcome = ended.outcome
    if outcome.reason == "lost":
        assert outcome.error is not None
        raise TrainingLost(in_three_parts(outcome.error), ended.folder)
    if outcome.reason == "collapsed":
        raise TrainingCollapsed(f"{outcome.says}; {ended.folder} tells how", ended.folder)
    if outcome.reason == "stopped" and not (stop is not None and stop.is_set()):
        raise TrainingStopped(
            f"stopped {outcome.says}, saved at update {outcome.progress.update}; to go on: "
            f"fit(resume={str(ended.folder)!r})",
            ended.folder,
        )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leaves the caller's process as it was."""
    drawn = random_state()
    threads = torch.get_num_threads()
    try:
        with process_group.library_logs_kept():
            yield
    finally:
        torch.set_num_threads(threads)
        restore_random_state(drawn)
