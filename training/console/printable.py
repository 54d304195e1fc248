"""Texts that can be printed, pasted and written into a file's name."""

from halting.errors import UsageError

_LONGEST = 255
"""Bytes of a part of a path, on the file systems in use."""


def check_printable(flag: str, path: str) -> None:
    """Refuses a path with characters that cannot be seen, and one with a part that is too long.

    Args:
        flag: what names it, in messages.
        path: the path, or a name.

    Raises:
        UsageError: for one of these.
    """
    check_visible(flag, path)
    if any(len(part.encode()) > _LONGEST for part in path.split("/")):
        raise UsageError(
            f"{flag} {path[:60]}… is too long.",
            f"No part of a path may have more than {_LONGEST} bytes.",
            "Write a shorter one.",
        )


def check_visible(flag: str, path: str) -> None:
    """Refuses a path with characters that cannot be seen, such as a line break, an escape or a mark
    that turns the direction of writing.

    Args:
        flag: what names it, in messages.
        path: the path, or a name.

    Raises:
        UsageError: for such a one.
    """
    odd = next((letter for letter in path if not letter.isprintable()), None)
    if odd is not None or not path:
        raise UsageError(
            f"{flag} {path[:80]!r} {'is empty' if odd is None else f'holds {odd!r}'}.",
            "It names a file or folder, and stands in commands and tables: what cannot be seen "
            "there cannot be typed again.",
            "Write a name of visible characters.",
        )
