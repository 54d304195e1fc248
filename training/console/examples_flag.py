"""The flag that says how many examples a verb reads: it has one name in all of them."""

from collections.abc import Sequence

from halting.errors import UsageError

_NAME = "--examples"
_OTHERS = (
    "--num",
    "--num-examples",
    "--max-examples",
    "--test-examples",
    "--eval-examples",
    "--num-samples",
    "--samples",
)


def check_examples_flag(words: Sequence[str], verb: str) -> None:
    """Refuses another spelling of the number of examples.

    Args:
        words: of the command.
        verb: whose they are.

    Raises:
        UsageError: with the name that the flag has.
    """
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") not in _OTHERS:
            continue
        following = words[place + 1] if place + 1 < len(words) else "-"
        number = value if equals else "N" if following.startswith("-") else following
        raise UsageError(
            f"ponder {verb} has no flag {name}.",
            f"How many examples are read is {_NAME} in all verbs; --eval-examples and "
            "--test-examples are two numbers of a training.",
            f"Write ponder {verb} {_NAME} {number}.",
        )
