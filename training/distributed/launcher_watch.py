"""Whether the launcher that started this rank is still there."""

import os
from dataclasses import dataclass
from pathlib import Path

_LAUNCHERS = (
    "deepspeed.launcher.launch",
    "torchrun",
    "torch.distributed.run",
    "torch/distributed/run",
)
_GONE = -1


@dataclass(frozen=True)
class LauncherWatch:
    """The processes above this one, as they were at the start.

    `deepspeed` is a runner that starts a launcher that starts the ranks. A SIGTERM to the runner
    alone ends the runner and nothing else: its ranks would train on as orphans. So each of them
    looks now and then.

    Args:
        parent: the launcher's process; None where no known launcher started this one (a shell may
            go as it likes).
        grandparent: the runner's; None under torchrun, which is both.
        words: of the `deepspeed` command on this machine, up to the script or module; empty where
            it is not known.
    """

    parent: int | None
    grandparent: int | None
    words: tuple[str, ...] = ()

    @staticmethod
    def of_this_process() -> "LauncherWatch":
        """Looks upwards."""
        parent = os.getppid()
        command = " ".join(_words(parent))
        if not any(name in command for name in _LAUNCHERS):
            return LauncherWatch(None, None)
        if _LAUNCHERS[0] not in command:
            return LauncherWatch(parent, None)
        runner = _parent_of(parent)
        if runner == 1 and not _launcher_words(_words(1)):
            runner = _GONE  # it went before this process could look
        return LauncherWatch(parent, runner, _launcher_words(_words(runner) if runner else []))

    @property
    def gone(self) -> str | None:
        """Which of them has gone, in words; None while all are there."""
        if self.parent is None:
            return None
        if os.getppid() != self.parent:
            return "the launcher had gone"
        if self.grandparent is not None and _parent_of(self.parent) != self.grandparent:
            return "the deepspeed command had gone"
        return None

    def missing(self) -> list[int]:
        """The ranks that the launcher started on this machine and that have ended; none where it
        can't be told."""
        told = os.environ
        number = told.get("LOCAL_SIZE") or told.get("LOCAL_WORLD_SIZE")
        if self.parent is None or number is None or os.getppid() != self.parent:
            return []
        first = int(told["RANK"]) - int(told["LOCAL_RANK"])
        there = {_rank_of(pid) for pid in _children_of(self.parent)}
        return [rank for rank in range(first, first + int(number)) if rank not in there]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _children_of(pid: int) -> list[int]:
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [each for each in found if _parent_of(each) == pid]


def _rank_of(pid: int) -> int | None:
    """As its launcher told it; None for a process that has ended."""
    try:
        told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return next(int(each[5:]) for each in told if each.startswith(b"RANK="))
    except (OSError, StopIteration, ValueError):
        return None


def _launcher_words(words: list[str]) -> tuple[str, ...]:
    """Deepspeed's own flags out of its command line: from its name to the module or script."""
    starts = [
        at
        for at, word in enumerate(words)
        if word == "deepspeed.launcher.runner" or Path(word).stem == "deepspeed"
    ]
    if not starts:
        return ()
    rest = words[starts[0] + 1 :]
    ends = [at for at, word in enumerate(rest) if word == "--module" or word.endswith(".py")]
    return tuple(rest[: ends[0]] if ends else rest)


def _parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
