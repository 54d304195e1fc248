"""One way to refuse bad input: say what is wrong, why it cannot work, and what to write instead."""


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
