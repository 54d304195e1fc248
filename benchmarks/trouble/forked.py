"""Runs cases in children of a process that has imported everything, so that each costs what it
does and no start-up."""

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trouble.case import Case, Ended

MARKER = "EXECUTED"
"""A file of this name in a case's folder tells that code ran which nobody asked for."""
_MEMORY = 12 << 30  # bytes of addresses; torch alone takes some of them
_LARGEST_FILE = 1 << 30
_SAID = 20_000  # characters that are kept of an output, from its end and its beginning
_MODULES = (
    "training.start",
    "training.cli.fitting",
    "training.cli.train_request",
    "training.resources.dry_run_text",
    "training.runs.loaded",
)


def import_everything() -> None:
    """Imports what the verbs import late, in the process whose children the cases are."""
    from training.cli.main import VERBS  # late: it need not be there to make cases

    for name in (*_MODULES, *(module for module, _ in VERBS.values())):
        importlib.import_module(name)
    for name in (
        "torch._dynamo",
        "deepspeed",
        "optuna",
        "tensorboard",
        "matplotlib.figure",
        "scipy.stats",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch  # late: as above

    torch.set_num_threads(1)


@dataclass
class _Child:
    case: Case
    place: Path
    pid: int
    pidfd: int
    began: float
    before: dict[str, tuple[int, int]]


def run_cases(
    cases: Iterable[Case], work: Path, workers: int = 1
) -> Iterator[tuple[Case, Ended, str | None]]:
    """Runs each case in a child of its own; gives how it ended and what its own check says, as they
    end.

    Args:
        cases: what to run.
        work: a folder for their folders, which go as they end.
        workers: children at a time.
    """
    waiting = iter(cases)
    running: list[_Child] = []
    more = True
    try:
        while more or running:
            while more and len(running) < workers:
                case = next(waiting, None)
                if case is None:
                    more = False
                else:
                    running.append(_start(case, work))
            for child in _ended(running) if running else ():
                running.remove(child)
                yield _result(child)
    finally:
        for child in running:
            _kill(child.pid)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
            shutil.rmtree(child.place, ignore_errors=True)


def _start(case: Case, work: Path) -> _Child:
    place = Path(tempfile.mkdtemp(prefix=f"{case.kind}-{case.number}-", dir=work))
    inside = place / "inside"
    inside.mkdir()
    (place / "tmp").mkdir()
    (place / "outside.txt").write_text("stays as it is\n")
    if case.prepare is not None:
        case.prepare(inside)
    before = _listing(place)
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(case, place)
    return _Child(case, place, pid, os.pidfd_open(pid), began, before)


def _child(case: Case, place: Path) -> None:
    """What the child does; it never returns."""
    code = 70
    try:
        os.setsid()
        _limit(case)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with (place / "said.txt").open("wb") as said, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.chdir(place / "inside")
        sys.path[0] = str(place / "inside")
        os.environ["TMPDIR"] = str(place / "tmp")
        os.environ["HOME"] = str(place / "inside")
        os.environ["COLUMNS"] = "100"
        tempfile.tempdir = None
        code = _command(case, place) if case.run is None else case.run(place / "inside")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  as the interpreter does at the end
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if 0 <= code < 256 else 1)


def _command(case: Case, place: Path) -> int:
    from training.cli.main import main  # late: tests of the judges need no model

    code = main(list(case.words))
    if code == 0 and case.words[0] == "train":
        from training.cli.train_request import read_request  # late, as above

        with contextlib.suppress(Exception, SystemExit), open(os.devnull, "w") as nothing:
            with contextlib.redirect_stdout(nothing):
                config = read_request(case.words[1:]).config
            (place / "config.json").write_text(config.to_json())
    return code


def _limit(case: Case) -> None:
    for each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # a shell's background ignores them
        signal.signal(each, signal.SIG_DFL if each != signal.SIGINT else signal.default_int_handler)
    seconds = int(case.limit) + 5
    limits = {
        resource.RLIMIT_AS: _MEMORY,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: _LARGEST_FILE,
        resource.RLIMIT_CORE: 0,
    }
    for which, value in limits.items():
        resource.setrlimit(which, (value, value))


def _ended(running: list[_Child]) -> list[_Child]:
    """Those that have ended, one at least; what runs past its time is killed."""
    while True:
        ready, _, _ = select.select([child.pidfd for child in running], [], [], 0.2)
        now = time.monotonic()
        late = [child for child in running if now > child.began + child.case.limit]
        found = [child for child in running if child.pidfd in ready or child in late]
        if found:
            return found


def _result(child: _Child) -> tuple[Case, Ended, str | None]:
    seconds = time.monotonic() - child.began
    late = (
        seconds > child.case.limit
        and os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    )
    _kill(child.pid)
    _, status = os.waitpid(child.pid, 0)
    os.close(child.pidfd)
    place = child.place
    inside = place / "inside"
    read = (place / "said.txt").read_bytes() if (place / "said.txt").exists() else b""
    said = read.decode("utf-8", "backslashreplace")
    if len(said) > 2 * _SAID:
        said = f"{said[:_SAID]}\n…\n{said[-_SAID:]}"
    config = None
    if (place / "config.json").exists():
        config = json.loads((place / "config.json").read_text())
    after = _listing(place)
    ended = Ended(
        None if late else os.waitstatus_to_exitcode(status),
        said,
        round(seconds, 2),
        config,
        any(place.rglob(MARKER)),
        tuple(
            sorted(
                name
                for name in child.before.keys() | after.keys()
                if child.before.get(name) != after.get(name)
            )
        ),
        tuple(sorted(path.name for path in (place / "tmp").iterdir())),
    )
    wrong = child.case.check(inside, ended) if child.case.check is not None else None
    shutil.rmtree(place, ignore_errors=True)
    return child.case, ended, wrong


def _kill(pid: int) -> None:
    """Ends the child and all that it started."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def _listing(place: Path) -> dict[str, tuple[int, int]]:
    """What lies beside a case's own folder: sizes and times, by path."""
    own = {"inside", "tmp", "said.txt", "config.json"}
    found = {}
    for top in sorted(place.iterdir()):
        if top.name not in own:
            for path in (top, *top.rglob("*")):
                about = path.lstat()
                found[str(path.relative_to(place))] = (about.st_size, about.st_mtime_ns)
    return found
