"""What type each token of a map is: the token itself where there are few, otherwise what it is made
of."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

MOST_TYPES = 24
OTHERS = "all others"
_KINDS = {
    "L": "letters",
    "M": "letters",
    "N": "digits",
    "P": "punctuation",
    "S": "symbols",
    "Z": "spaces",
}


def token_types(texts: Sequence[str]) -> list[str]:
    """The type of each token.

    Up to 24 different texts are a type each. Of more, the type is the kind of their characters by
    Unicode category (letters, digits, punctuation, symbols, spaces, line breaks, control), "mixed"
    for several kinds; a space before a word is part of the word. Where that tells nothing apart,
    the most frequent texts are types, and the rest is one.
    """
    counts = Counter(texts)
    if len(counts) <= MOST_TYPES:
        return list(texts)
    kinds = {text: _kind(text) for text in counts}
    if len(set(kinds.values())) > 1:
        return [kinds[text] for text in texts]
    frequent = {text for text, _ in counts.most_common(MOST_TYPES - 1)}
    return [text if text in frequent else OTHERS for text in texts]


def _kind(text: str) -> str:
    inner = text.strip(" ") or text
    kinds = {_kind_of_character(character) for character in inner}
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "empty"


def _kind_of_character(character: str) -> str:
    if character in "\n\r":
        return "line breaks"
    if character == "\t":
        return "spaces"
    return _KINDS.get(unicodedata.category(character)[0], "control")
