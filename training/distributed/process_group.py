"""How a process becomes a rank: environment, process group, time limits, and where the logs of
libraries go."""

import contextlib
import functools
import importlib
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TextIO

import torch
from torch import distributed as dist
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

from halting.errors import UsageError
from training.distributed import slurm
from training.distributed.freed_memory import give_back_large_blocks
from training.distributed.members import Members
from training.distributed.network_interface import choose_interface
from training.distributed.rendezvous import Place, meet

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others before it gives up."""
_LOGGERS = ("DeepSpeed", "torch", "py.warnings")
_started = threading.Event()


def under_launcher() -> bool:
    """Whether `deepspeed`, `torchrun` or `srun` started this process as a rank."""
    return all(name in os.environ for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))


@dataclass(frozen=True)
class Joined:
    """What a rank knows when all have met.

    Args:
        device: its own.
        members: all ranks.
    """

    device: torch.device
    members: Members


def start(
    timeout: timedelta = TIMEOUT,
    *,
    cpu: bool = False,
    library_log: Path | TextIO | None = None,
    facts: Mapping[str, str] = MappingProxyType({}),
    lost_after: float = 20.0,
) -> Joined:
    """Joins the other ranks, or makes a world of one where no launcher started this process.

    Nothing is compiled. Call it once, before any other use of DeepSpeed.

    Args:
        timeout: how long a rank waits for the others; of every process group that is made from here
            on.
        cpu: run on the CPU even where there is a GPU.
        library_log: a file for what DeepSpeed, torch and Python's warnings have to say; the screen
            if None.
        facts: what has to be the same on all ranks (`training.distributed.fingerprint`).
        lost_after: seconds without a sign of life after which a rank of another machine counts as
            lost.

    Raises:
        UsageError: where DeepSpeed is not installed, and for what keeps ranks from meeting
            (`rendezvous.meet`).
    """
    _started.set()
    cpu = cpu or not torch.cuda.is_available()
    _prepare_environment(cpu)
    if library_log is not None:
        redirect_library_logs(library_log)
    try:
        import deepspeed  # late: it takes its time, and reads DS_ACCELERATOR when imported
    except ImportError as error:
        raise UsageError(
            "--deepspeed-config and --report-to need DeepSpeed, which cannot be imported: "
            f"{error}.",
            "ZeRO, offload and the monitors are DeepSpeed's; one process runs without.",
            "Write pip install 'ponderloop[deepspeed]', or leave these flags out.",
        ) from error
    if library_log is not None:
        redirect_library_logs(
            library_log
        )  # once more: importing DeepSpeed gives its logger a handler for the screen
    if cpu:
        skip_shared_memory_op()
        leave_muon_uncompiled()
        give_back_large_blocks()
    else:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    limit_waiting(timeout)
    place = Place.from_environment()
    choose_interface(place.address)
    store, members = meet(place, facts, timeout, lost_after)
    members.listen()
    try:
        dist.init_process_group(
            "gloo" if cpu else "nccl",
            store=PrefixStore("group", store),
            rank=members.rank,
            world_size=len(members.everyone),
            timeout=timeout,
        )
        deepspeed.init_distributed(timeout=timeout, verbose=False)
    except RuntimeError as error:
        members.end_failed(error)
        raise
    return Joined(
        torch.device("cpu") if cpu else torch.device("cuda", int(os.environ["LOCAL_RANK"])), members
    )


def was_started() -> bool:
    """Whether `start` was called in this process."""
    return _started.is_set()


def check_not_started() -> None:
    """Raises UsageError where `start` was called in this process before."""
    if _started.is_set():
        raise UsageError(
            "DeepSpeed was started in this process before.",
            "Once it has let go of its process group, it does not start again there.",
            "Start a new process (in a notebook: restart the kernel), or leave deepspeed_config "
            "and report_to out.",
        )


def stop() -> None:
    """Leaves the process group, and so ends its threads: those that outlive Python can abort it."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """Ends this rank once its work is done: the process group is left and everything is written
    out, and Python's teardown is skipped. On a busy machine a thread of a library that outlives it
    aborted ranks whose work was done ("terminate called without an active exception"), and a
    launcher takes that for a lost run.

    Args:
        code: the exit code.
    """
    stop()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def library_logs_kept() -> Iterator[None]:
    """Undoes at its end what `redirect_library_logs` has done within it."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    shows = warnings.showwarning
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            for added in logger.handlers:
                if added not in handlers:
                    added.close()
            logger.handlers = handlers
            logger.propagate = propagate
        if warnings.showwarning is not shows:
            logging.captureWarnings(False)


class _LibraryLog(logging.FileHandler):
    """A log that a full disk ends in silence: logging would print a traceback for every line."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def redirect_library_logs(log: Path | TextIO) -> None:
    """Sends the log lines of DeepSpeed and torch, and Python's warnings, to a file instead of the
    screen."""
    handler = _LibraryLog(log) if isinstance(log, Path) else logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.captureWarnings(True)
    # DeepSpeed calls these at every step, and Python would write each of them down.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for old in logger.handlers:
            old.close()
        logger.handlers = [handler]
        logger.propagate = False


def skip_shared_memory_op() -> None:
    """Has the process group do without DeepSpeed's shared-memory reduce for CPUs.

    It would be compiled at the start (over a minute), and a build that was killed leaves a lock on
    which every later start waits for ever. The table is private to DeepSpeed; a test checks that it
    still decides.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def leave_muon_uncompiled() -> None:
    """Imports DeepSpeed's Muon optimizer, as every engine does, without having torch.compile look
    at it.

    No run can choose that optimizer, and the compiler that is imported for it takes a second of
    every rank's start. The function that gives the decorator is private to DeepSpeed; a test checks
    that the compiler stays out.
    """
    from deepspeed.runtime import compiler

    usual = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        with contextlib.suppress(
            ImportError
        ):  # where it has another place, engines take that second as before
            importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    finally:
        compiler.compile = usual


def limit_waiting(timeout: timedelta) -> None:
    """Gives every process group that is made from here on a time limit.

    DeepSpeed makes its own by `torch.distributed.new_group(ranks)`, without one: torch's default of
    half an hour would hold there, whatever the first group was given.
    """
    dist.new_group = functools.partial(dist.new_group, timeout=timeout)


def _prepare_environment(cpu: bool) -> None:
    if cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    # Extensions of one environment are never those of another: they were built for other versions
    # of torch.
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))
    slurm.adopt()
    if not under_launcher():
        os.environ.update(
            RANK="0",
            LOCAL_RANK="0",
            WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(free_port()),
        )


def free_port() -> int:
    """A port of this machine at which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
