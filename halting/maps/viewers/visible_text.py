"""Token texts made visible: no control character reaches a terminal, and every width is certain."""

import unicodedata

_NAMED = {"\n": "⏎", "\t": "⇥", "\x7f": "␡"}
# Terminals disagree on how wide joined or restyled emoji are; without these two, each part has its
# own certain width.
_DROPPED = "\u200d\ufe0f"


def visible(
    text: str, ascii_only: bool = False, keep_spaces: bool = False, joined: bool = False
) -> str:
    """The text with whitespace and control characters shown: " the\\n" is "␣the⏎", or "\\sthe\\n"
    in ASCII. Emoji of several parts stay `joined` where a browser draws them."""
    if ascii_only:
        shown = text.encode("unicode_escape").decode().replace("\\\\", "\\")
        return shown if keep_spaces else shown.replace(" ", "\\s")
    kept = " " if keep_spaces else ""
    if joined and (inside := text.strip("\u200d")):
        return _marked("".join(c if c in kept + _DROPPED else _shown(c) for c in inside))
    if joined:
        return "".join(map(_shown, text))
    return _marked("".join(c if c in kept else _shown(c) for c in text if c not in _DROPPED))


def one_cell(character: str, ascii_only: bool = False) -> str:
    """A single character in a form that takes one cell; spaces stay, what has no such form is shown
    by a stand-in."""
    if character == " ":
        return " "
    if ascii_only:
        stand_in = {"\n": "$", "\t": ">"}.get(character, "?")
        return character if character.isascii() and character.isprintable() else stand_in
    shown = _marked(_shown(character))
    return "\ufffd" if shown.startswith("\\") and character != "\\" else shown


def _shown(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if ord(character) < 32:
        return chr(0x2400 + ord(character))
    category = unicodedata.category(character)
    if category == "Zs":
        return "␣"
    if category[0] == "C" or category in ("Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    return character


def _marked(text: str) -> str:
    """A combining mark that begins a text gets a circle to stand on, or it would move into the cell
    before."""
    return "◌" + text if text and unicodedata.category(text[0])[0] == "M" else text
