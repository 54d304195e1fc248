"""What a run may be called."""

from pathlib import Path

from halting.errors import UsageError
from training.console.printable import check_printable


def check_name(name: str | None) -> None:
    """Refuses a name that is no folder's: a path, one that says another folder, and one that cannot
    be seen.

    Raises:
        UsageError: for one of these.
    """
    if name is None:
        return
    check_printable("--name", name)
    if Path(name).name != name or name == "..":
        raise UsageError(
            f"--name {name} is a path.",
            "A run folder stands directly in --output.",
            f"Write --output {Path(name).parent} --name {Path(name).name or 'NAME'}.",
        )
