"""Files that a person asked for: nothing that exists is overwritten."""

from pathlib import Path

from halting.errors import UsageError


def check_absent(*paths: Path | None) -> None:
    """Raises UsageError for the first path at which something stands; called before any work
    starts."""
    for path in paths:
        if path is not None and path.exists():
            raise UsageError(
                f"{path} exists already.",
                "Nothing that exists is overwritten.",
                "Write another name, or remove it.",
            )


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, and makes the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
