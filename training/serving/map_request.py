"""What is asked of the server: a text to think about; and how it is refused."""

import json
from dataclasses import dataclass
from typing import Any

from halting.errors import UsageError


class Refusal(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: of HTTP.
        reason: what, why, and what to write instead.
        headers: beside the usual ones.
    """

    def __init__(self, status: int, reason: UsageError, **headers: str):
        super().__init__(str(reason))
        self.status = status
        self.reason = reason
        self.headers = headers

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "error": {"what": self.reason.what, "why": self.reason.why, "write": self.reason.write}
        }


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Args:
        body: bytes of a request's body.
        tokens: of a text; attention grows with their square.
        steps: of the loop.
    """

    body: int
    tokens: int
    steps: int


@dataclass(frozen=True)
class MapRequest:
    """A text, and the step limit to think about it with; None for the trained one."""

    text: str
    max_steps: int | None = None

    @classmethod
    def read(cls, body: bytes, limits: Limits) -> "MapRequest":
        """The request in a body.

        Raises:
            Refusal: 400 for anything but {"text": "…", "max_steps": 8}, max_steps left out or
                within the limit.
        """
        try:
            values = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _bad("The body is not JSON.", f"It cannot be read: {error}.") from error
        if not isinstance(values, dict) or "text" not in values:
            raise _bad(
                "The body has no text.", "The model thinks about a text, and about nothing else."
            )
        if unknown := sorted(set(values) - {"text", "max_steps"}):
            raise _bad(
                f"The body has {', '.join(map(repr, unknown))}.",
                "It may hold text and max_steps alone.",
            )
        text = values["text"]
        steps = values.get("max_steps")
        if not isinstance(text, str):
            raise _bad(f"text is {json.dumps(text)[:60]}.", "It has to be a string.")
        if steps is not None and (
            isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= limits.steps
        ):
            raise _bad(
                f"max_steps is {json.dumps(steps)[:60]}.",
                f"It has to be a whole number from 1 to {limits.steps}.",
            )
        return cls(text, steps)


def _bad(what: str, why: str) -> Refusal:
    return Refusal(
        400,
        UsageError(
            what, why, 'Send JSON such as {"text": "…", "max_steps": 8}; max_steps may be left out.'
        ),
    )
