"""Numbers that count something."""

from numbers import Integral
from typing import TypeGuard


def is_count(value: object, least: int = 1) -> TypeGuard[int]:
    """Whether it is a whole number, no bool and no text, of at least so many."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
