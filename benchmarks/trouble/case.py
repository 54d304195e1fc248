"""One bad input, and how it may end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a case ended.

    Args:
        code: the exit code, negative for a signal; None where it ran past its time.
        said: standard output and standard error.
        seconds: how long it took.
        config: the config that the command line came to, JSON values; None where it came to none.
        executed: the canary's marker is there: code ran that nobody asked for.
        outside: what appeared or changed beside the case's own folder.
        left: what stayed in the folder for temporary files.
    """

    code: int | None
    said: str
    seconds: float
    config: dict[str, Any] | None
    executed: bool
    outside: tuple[str, ...]
    left: tuple[str, ...]


Check = Callable[[Path, Ended], str | None]
"""What has to hold in the case's folder afterwards; what is wrong, in words, or None."""


@dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        kind: the family.
        number: within it; with the kind it names the case, and seeds it.
        says: what was done to a good input.
        words: what follows `ponder`.
        rule: the written rule that allows a success (`rules.RULES`); None: it has to be refused.
        must_work: the rule asks for a success.
        must_say: a pattern that the output of a success matches.
        config: values that the config of a success has, by path.
        prepare: puts files into the case's folder.
        check: what has to hold afterwards.
        run: what the child does instead of `ponder`; gives the exit code.
        limit: seconds.
    """

    kind: str
    number: int
    says: str
    words: tuple[str, ...] = ()
    rule: str | None = None
    must_work: bool = False
    must_say: str | None = None
    config: tuple[tuple[str, Any], ...] = ()
    prepare: Callable[[Path], None] | None = None
    check: Check | None = None
    run: Callable[[Path], int] | None = None
    limit: float = 60.0

    @property
    def name(self) -> str:
        """What `--only` takes."""
        return f"{self.kind}:{self.number}"
