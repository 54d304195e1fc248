"""What the `deepspeed` command was told, and what it makes of that without a word."""

import re
from collections.abc import Sequence
from pathlib import Path

from halting.errors import UsageError
from training.console.text_file import read_text

_COUNTS = (
    "--num_gpus",
    "--num_accelerators",
    "--include",
    "-i",
    "--exclude",
    "-e",
    "--hostfile",
    "-H",
)
_HOSTFILE = ("--hostfile", "-H")
_ENTRY = re.compile(r"(\S+)\s+slots=(\d+)")


def check_command(words: Sequence[str], world: int, has_gpu: bool) -> None:
    """Refuses a launcher's command that started something else than was meant.

    Args:
        words: of the command, up to the script or module; empty where it is not known.
        world: how many ranks it started.
        has_gpu: whether this machine has a GPU.

    Raises:
        UsageError: for a hostfile that is not there or names a machine twice, a machine that it
            does not name, and no count where there are no GPUs to count.
    """
    if not words:
        return
    named = value_of(words, _HOSTFILE)
    if named is not None:
        listed = hosts(Path(named))
        _check_hosts_listed(value_of(words, ("--include", "-i")), listed, named)
        _check_hosts_listed(value_of(words, ("--exclude", "-e")), listed, named)
    told = any(word.partition("=")[0] in _COUNTS for word in words)
    if not told and world == 1 and not has_gpu:
        raise UsageError(
            "deepspeed was started without a number of ranks, and made one.",
            "It counts GPUs, and this machine has none; nobody starts a launcher for one rank.",
            "Write deepspeed --num_gpus 2 … (--num_accelerators is the same), or ponder train … "
            "for one process.",
        )


def hosts(path: Path) -> dict[str, int]:
    """The machines of a hostfile, and the ranks on each.

    Raises:
        UsageError: for a file that is not there or is no text, a line that is no entry, a machine
            that is named twice, and no entry.
    """
    lines = read_text(
        path,
        f"--hostfile {path}",
        "deepspeed reads it too: without one that it can read, it goes on with this machine alone.",
        "hosts, which holds a line such as `machine1 slots=8` for each machine",
    ).splitlines()
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        entry = line.split("#")[0].strip()
        match = _ENTRY.fullmatch(entry)
        if entry and (match is None or match[1] in found):
            bare = "slots=" not in entry
            lacks = "It does not say how many ranks." if bare else "It is no entry."
            raise UsageError(
                f"{path}, line {number}: {entry}.",
                "It names a machine a second time." if match else lacks,
                "Write one line for each machine: its name, a space, and slots=, with the number "
                "of its ranks.",
            )
        if match:
            found[match[1]] = int(match[2])
    if not found:
        raise UsageError(
            f"{path} names no machine.",
            "deepspeed starts ranks on the machines that it names.",
            "Write one line for each, such as `machine1 slots=8`.",
        )
    return found


def value_of(words: Sequence[str], names: Sequence[str]) -> str | None:
    """The value of a flag, `--flag VALUE` or `--flag=VALUE`; the last one counts."""
    value = None
    for number, word in enumerate(words):
        name, equals, inside = word.partition("=")
        if name in names:
            value = inside if equals else words[number + 1] if number + 1 < len(words) else None
    return value


def _check_hosts_listed(chosen: str | None, listed: dict[str, int], path: str) -> None:
    for part in (chosen or "").split("@"):
        host = part.partition(":")[0]
        if host and host not in listed:
            raise UsageError(
                f"{chosen} names the machine {host}, and {path} does not.",
                "deepspeed takes its machines from there.",
                f"Add the line `{host} slots=8` with the number of its ranks, or write one of "
                f"{', '.join(listed)}.",
            )
