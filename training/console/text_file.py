"""A person's own text and JSON files, read strictly: what cannot be meant is refused with its
place."""

import json
from pathlib import Path
from typing import Any, NoReturn

from halting.errors import UsageError
from training.console.text_fault import MARK, first_fault


def read_text(path: Path, asked: str, why: str, example: str) -> str:
    """The text of a file in UTF-8; a byte order mark before it is read over.

    Args:
        path: the file.
        asked: what a person named, for messages: "--config run.json".
        why: what it is needed for, as a sentence.
        example: a path as it could be written instead.

    Raises:
        UsageError: for a file that is not there or cannot be read, and for one that is no text in
            UTF-8, with the place and what it looks like (UTF-16, Latin-1, gzip, a NUL …).
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        says = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(
            f"{asked} cannot be read: {says}.",
            why,
            f"Write the path of a file that is there, such as {example}.",
        ) from None
    if (fault := first_fault(data)) is not None:
        raise fault.refusal(asked, path)
    return data.removeprefix(MARK).decode("utf-8")


def read_json(path: Path, asked: str, why: str, example: str) -> Any:
    """What a JSON file holds. The arguments are those of `read_text`.

    Raises:
        UsageError: as `read_text` does; for what is not JSON; for NaN and infinities, which JSON
            has no word for; for a key that is there twice, of which only one could count.
    """
    return parse_json(read_text(path, asked, why, example), asked)


def parse_json(text: str, asked: str) -> Any:
    """What a JSON text holds.

    Args:
        text: the JSON.
        asked: where it comes from, for messages.

    Raises:
        UsageError: for what is not JSON, NaN and infinities, and a key that is there twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise twice(asked, key, found[key], value)
            found[key] = value
        return found

    def no_number(name: str) -> NoReturn:
        raise UsageError(
            f"{asked} holds {name}.",
            "JSON has no word for it, and no setting means it.",
            "Write a finite number.",
        )

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:
        says = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(
            f"{asked} is not JSON: {says}.", "It cannot be read at all.", "Mend that place."
        ) from None


def twice(asked: str, key: object, first: object, second: object) -> UsageError:
    """The refusal of a key that a file gives twice."""
    return UsageError(
        f"{asked} has the key {key} twice ({_short(first)} and {_short(second)}).",
        "Only one of them could count, and readers differ in which.",
        f"Drop one {key}.",
    )


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"
