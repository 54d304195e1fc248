"""How long the parts of a computation take, told apart by timers around the calls."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

BLOCK = "block"
RULE = "rule"
LOOP = "gather and scatter"
REST = "rest"
BACKWARD = "backward"
SECTIONS = (BLOCK, RULE, LOOP, REST, BACKWARD)
_LEAVES = (BLOCK, RULE, BACKWARD)


class SectionTimer:
    """Seconds of each section: each moment counts for the innermost one that is entered, or for the
    rest. What block, rule and backward pass call is theirs, whatever it is.

    Args:
        clock: tells the time in seconds.

    Attributes:
        seconds: of each section so far.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.seconds: dict[str, float] = dict.fromkeys(SECTIONS, 0.0)
        self._current = REST
        self._since = clock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts while entered."""
        self._current, self._since = REST, self.clock()
        try:
            yield
        finally:
            self._switch(REST)

    def shares(self) -> dict[str, float]:
        """What part of the whole each section takes; they sum to 1."""
        whole = sum(self.seconds.values()) or 1.0
        return {name: seconds / whole for name, seconds in self.seconds.items()}

    def timed(self, section: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for a section."""

        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            outer = self._current
            if outer in _LEAVES:
                return function(*args, **named)
            self._switch(section)
            try:
                return function(*args, **named)
            finally:
                self._switch(outer)

        return timed

    @contextmanager
    def around(self, sections: Mapping[tuple[object, str], str]) -> Iterator[None]:
        """While entered, methods are timed: of these objects alone, not of others of their class.

        Args:
            sections: the section of each (object, name of its method).
        """
        had = [(owner, name, vars(owner).get(name)) for owner, name in sections]
        try:
            for (owner, name), section in sections.items():
                vars(owner)[name] = self.timed(section, getattr(owner, name))
            yield
        finally:
            for owner, name, before in had:
                vars(owner).pop(name, None)
                if before is not None:
                    vars(owner)[name] = before

    def _switch(self, section: str) -> None:
        now = self.clock()
        self.seconds[self._current] += now - self._since
        self._current = section
        self._since = now
