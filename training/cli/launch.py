"""`ponder launch`: deepspeed, started again from the last whole checkpoint when a job dies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from halting.errors import UsageError
from training.checkpoints import checkpoint
from training.cli.train_request import read_request
from training.config import code_trust
from training.distributed.launch_command import check_command
from training.distributed.stop_request import insists
from training.runs import folder as run_folder
from training.runs.metrics import read_metrics
from training.runs.run_path import RunPath

_USAGE = """usage: ponder launch [--max-restarts N] [--wait SECONDS] -- DEEPSPEED'S ARGUMENTS

  ponder launch --max-restarts 5 -- --num_gpus 8 --module training.train RECIPE \\
      --deepspeed_config FILE

Runs deepspeed with these arguments. When the job dies, because a rank was killed, a machine failed
or the launcher went, it is started again from the last whole checkpoint, at most N times (3). Not
started again: a run that ended as asked, one that was stopped by a signal, bad input, a loss that
is no number, one that dies twice at the same update.

  --max-restarts N   how often (default 3)
  --wait SECONDS     before each restart (default 5)"""
_MODULE = "training.train"
_ENDING = 90.0
_STOPPED = {128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
"""A rank's exit code after a signal that it answered; the kernel's are negative."""
_NOTICED = {"PDSH_SSH_ARGS_APPEND": "-oServerAliveInterval=5 -oServerAliveCountMax=4"}
"""By itself ssh never notices that a machine was cut off, and pdsh would wait for it for ever."""


@dataclass(frozen=True)
class LaunchedJob:
    """What is started.

    Args:
        launcher: deepspeed's own words, up to the module.
        words: those of training.train.
        folder: of the run, once it is there.
    """

    launcher: tuple[str, ...]
    words: tuple[str, ...]
    folder: Path

    def command(self) -> list[str]:
        """What is run."""
        return [
            sys.executable,
            "-m",
            "deepspeed.launcher.runner",
            *self.launcher,
            "--module",
            _MODULE,
            *self.words,
        ]

    def again(self) -> "LaunchedJob":
        """The same from its last checkpoint; from scratch in a folder of the next number where it
        has none."""
        trusts = (code_trust.FLAG,) if code_trust.take_flag(self.words)[1] else ()
        return replace(self, words=("--resume", str(self.folder), *trusts))

    @property
    def update(self) -> int | None:
        """That of the newest checkpoint; None where there is none."""
        kept = checkpoint.found(self.folder / "checkpoints")
        return int(kept[-1].name.rpartition("-")[2]) if kept else None


def main(argv: Sequence[str]) -> int:
    """Runs a job to its end; gives the exit code of its last start."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    mine, given = (
        (words[: words.index("--")], words[words.index("--") + 1 :])
        if "--" in words
        else ([], words)
    )
    restarts = _number(mine, "--max-restarts", 3)
    wait = _number(mine, "--wait", 5)
    if mine:
        raise UsageError(
            f"{' '.join(mine)} stands before --.", "Deepspeed's arguments come after it.", _USAGE
        )
    return supervise(job_of(given), int(restarts), wait)


def job_of(given: Sequence[str]) -> LaunchedJob:
    """The job that deepspeed's arguments ask for. The run gets its folder's name here, so that it
    can be found again.

    Raises:
        UsageError: for arguments without training.train, and what training.train and deepspeed
            refuse.
    """
    words = list(given)
    place = next((at for at, word in enumerate(words) if word == _MODULE), None)
    if place is None or "--module" not in words[:place]:
        raise UsageError(
            f"{' '.join(given) or 'Nothing'} does not start {_MODULE}.",
            "What dies is started again from its run folder, which only a training of ours has.",
            f"Write ponder launch -- --num_gpus 8 --module {_MODULE} RECIPE --deepspeed_config "
            "FILE.",
        )
    launcher = tuple(word for word in words[:place] if word != "--module")
    check_command(launcher, 1, torch.cuda.is_available())
    mine = words[place + 1 :]
    own, trusts = code_trust.take_flag(mine)
    with code_trust.trusting(trusts):
        request = read_request(own, ranks_known=False)
    if request.resume is not None:
        return LaunchedJob(launcher, tuple(mine), RunPath.parse(request.resume).home)
    folder = run_folder.next_free(request.config)
    named = [] if request.config.name is not None else ["--name", folder.name]
    return LaunchedJob(launcher, (*mine, *named), folder)


def supervise(job: LaunchedJob, restarts: int, wait: float) -> int:
    """Starts a job, and starts it again while that may help; gives the last exit code."""
    with StopSignals() as stop:
        return _supervised(job, restarts, wait, stop)


def _supervised(job: LaunchedJob, restarts: int, wait: float, stop: "StopSignals") -> int:
    done = 0
    last = None
    while True:
        code = Attempt(job.command(), stop).run()
        reason = _why_not_again(job, code, stop.heard, last)
        if reason is None and done == restarts:
            reason = (
                f"it has been started again {restarts} times" if restarts else "--max-restarts is 0"
            )
        if reason is not None:
            if code or stop.heard:
                _say(f"the job ended with code {code} and is not started again: {reason}")
            return code if code >= 0 else 128 - code
        last = job.update
        done = done + 1
        _say(
            f"the job ended with code {code}; restart {done} of {restarts} from update {last} in "
            f"{wait:g} s"
        )
        until = time.monotonic() + wait
        while stop.heard is None and time.monotonic() < until:
            time.sleep(0.1)
        if stop.heard is not None:
            _say(f"stopped by {stop.heard} between two starts; to go on: ponder launch again")
            return 128 + signal.Signals[stop.heard]
        job = job.again()


def _why_not_again(job: LaunchedJob, code: int, told: str | None, last: int | None) -> str | None:
    """Why another start would be wrong or in vain; None where it may help."""
    if told is not None:
        return f"it was told to stop ({told})"
    if code == 0:
        return "it ended as it was meant to"
    if code in _STOPPED:
        return f"a rank was told to stop ({signal.Signals(code - 128).name})"
    lines = []
    with contextlib.suppress(OSError, ValueError):  # killed within a line, or before there was one
        lines = read_metrics(job.folder)
    if lines and lines[-1]["kind"] == "stopped":
        return f"it was stopped {lines[-1]['says']}"
    if code == 2:
        return "its input has to be mended first"
    if job.update is None:
        return "it died before its first checkpoint"
    if any(line["kind"] == "lost" for line in lines):
        return "its loss was lost, and would be again"
    if job.update == last:
        return f"it died twice after the checkpoint of update {last}"
    return None


class Attempt:
    """One start of the launcher, in a session of its own, so that a signal to this command's group
    reaches nobody else.

    Args:
        command: its words.
        stop: hears what this command is told.
    """

    def __init__(self, command: Sequence[str], stop: "StopSignals"):
        self.command = command
        self.stop = stop

    def run(self) -> int:
        """Waits for its end; nothing of its group is left behind."""
        process = subprocess.Popen(
            self.command, start_new_session=True, env={**_NOTICED, **os.environ}
        )
        with self.stop.told(lambda number: _pass_on(process, number)):
            code = process.wait()
            _end_group(process.pid, _ENDING)
        return code


class StopSignals:
    """While it is entered, SIGINT, SIGTERM and SIGHUP to this command are kept and passed on, each
    request once; see `insists` for what a second request is."""

    def __init__(self) -> None:
        self.heard: str | None = None
        self._heard_at = 0.0
        self._tell: Callable[[int], None] | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    @contextlib.contextmanager
    def told(self, tell: Callable[[int], None]) -> Iterator[None]:
        """Passes on to a job; what was heard before it was there, too."""
        self._tell = tell
        try:
            if self.heard is not None:
                tell(signal.Signals[self.heard])
            yield
        finally:
            self._tell = None

    def _hear(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if self.heard is not None and not insists(
            number, signal.Signals[self.heard], now - self._heard_at
        ):
            return
        self.heard = signal.Signals(number).name
        self._heard_at = now
        if self._tell is not None:
            self._tell(number)


def _pass_on(runner: subprocess.Popen, number: int) -> None:
    """Tells the ranks of this machine, and nobody between: deepspeed's launcher would pass the
    signal on to one of them and kill it after 30 seconds, in the middle of a long save. The others
    stop with them. Before there are ranks, and where all of them are on other machines, it tells
    deepspeed."""
    below: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        below = psutil.Process(runner.pid).children(recursive=True)
    launchers = [each.pid for each in below if "deepspeed.launcher.launch" in _command_of(each)]
    ranks = [each for each in below if _parent_of(each) in launchers]
    for each in ranks:
        with contextlib.suppress(psutil.Error):
            each.send_signal(number)
    if ranks:
        return
    if any("deepspeed.launcher." in _command_of(each) for each in below) and not launchers:
        _signal_group(runner.pid, number)  # through pdsh
    else:
        # A Ctrl-C is lost among the imports of deepspeed; nothing is there yet to save.
        _signal_group(runner.pid, signal.SIGTERM)


def _command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _parent_of(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return None


def _end_group(group: int, seconds: float) -> None:
    """Waits until a process group is empty, and kills what is left after a while: its launcher may
    go before it."""
    until = time.monotonic() + seconds
    while _signal_group(group, 0) and time.monotonic() < until:
        time.sleep(0.1)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anybody to get it."""
    try:
        os.killpg(group, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def _number(words: list[str], flag: str, default: float) -> float:
    """Takes `flag VALUE` out of the words."""
    if flag not in words:
        return default
    at = words.index(flag)
    value = words[at + 1] if at + 1 < len(words) else ""
    del words[at : at + 2]
    if not value.isdecimal():
        raise UsageError(
            f"{flag} is {value or 'not given'}.",
            "It is a whole number.",
            f"Write {flag} {default:g}.",
        )
    return float(value)


def _say(text: str) -> None:
    print(f"ponder launch: {text}", file=sys.stderr, flush=True)
