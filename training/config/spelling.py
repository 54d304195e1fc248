"""What a misspelt name was meant to be."""

import difflib
from collections.abc import Callable, Iterable


def did_you_mean(name: str, names: Iterable[str], show: Callable[[str], str] = str) -> str:
    """A question that ends messages: which of `names`, each shown as `show` says, is near `name`;
    else nothing."""
    lowered = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.65)
    return f"Did you mean {' or '.join(show(lowered[key]) for key in near)}? " if near else ""
