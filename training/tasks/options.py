"""Limits of the numbers that a task takes as options."""

from halting.errors import UsageError


def require_at_least(least: int, option: str, value: int, why: str) -> None:
    """Refuses an option below its least value.

    Args:
        least: the least value that works.
        option: the argument's name, a flag of the group `--data`.
        value: what was asked for.
        why: what needs that much, as a sentence.

    Raises:
        UsageError: for a value below it.
    """
    if value < least:
        raise UsageError(
            f"--data.{option} is {value}.", why, f"Write --data.{option} {least} or more."
        )
