"""Limits of the numbers that a task takes as options."""

from halting.errors import UsageError

MOST = 10_000_000
"""The most tokens, or kinds of token, of an example."""


def require_at_least(least: int, option: str, value: int, why: str) -> None:
    """Refuses an option below its least value, and one that no example can have.

    Args:
        least: the least value that works.
        option: the argument's name, a flag of the group `--data`.
        value: what was asked for.
        why: what needs that much, as a sentence.

    Raises:
        UsageError: for a value below it, or beyond `MOST`.
    """
    if value < least:
        raise UsageError(
            f"--data.{option} is {value}.", why, f"Write --data.{option} {least} or more."
        )
    if value > MOST:
        raise UsageError(
            f"--data.{option} is {value}.",
            f"An example of more than {MOST:,} tokens is no example that a model reads.",
            f"Write --data.{option} {MOST} or less.",
        )
