"""What does not fit: sizes that overflow, and more memory than there is."""

from collections.abc import Iterator
from contextlib import contextmanager

from halting.errors import UsageError

_SAID = (
    "allocate memory",
    "out of memory",
    "overflow",
    "int too large",
    "numpy array is too large",
    "maximum allowed dimension",
    "array is too big",
    "invalid shape dimension",
)
"""How torch and NumPy say it."""


@contextmanager
def said_if_too_large(what: str, fix: str) -> Iterator[None]:
    """Says in three parts that something does not fit, in place of what a library raises.

    Args:
        what: is made, as a sentence's subject: "The model".
        fix: what to write instead.

    Raises:
        UsageError: where it does not fit.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError, OverflowError, TypeError) as error:
        if not is_too_large(error):
            raise
        says = " ".join(str(error).partition("\nException raised")[0].split())[:200]
        raise UsageError(
            f"{what} does not fit: {says}.", "It is too large for this machine.", fix
        ) from error


def is_too_large(error: BaseException) -> bool:
    """Whether an error says that something is too large to be counted or to be held."""
    if isinstance(error, UsageError):
        return False
    says = str(error).lower()
    return isinstance(error, MemoryError | OverflowError) or any(each in says for each in _SAID)
