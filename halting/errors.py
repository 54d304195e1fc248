"""One way to refuse bad input: say what is wrong, why it cannot work, and what to write instead."""

from collections.abc import Sequence


class UsageError(ValueError):
    """Bad input from a user, in three parts.

    Args:
        what: what was asked for, with the offending value in it.
        why: why that cannot work.
        write: what to write instead.
    """

    def __init__(self, what: str, why: str, write: str):
        self.what = what
        self.why = why
        self.write = write
        super().__init__(f"{what} {why} {write}")


class UsageErrors(UsageError):
    """Several reasons at once, so that a person mends all of them before the next try.

    Args:
        errors: two or more; the parts of this one are those of the first.
    """

    def __init__(self, errors: Sequence[UsageError]):
        first = errors[0]
        super().__init__(first.what, first.why, first.write)
        self.errors = tuple(errors)
        self.args = ("\n".join(map(str, errors)),)


def raise_all(errors: Sequence[UsageError]) -> None:
    """Raises what there is: nothing, one error as it is, or several as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise UsageErrors(errors)
