"""One self-contained HTML page of a ponder map, or of several maps of the same examples. It fetches
nothing, and runs no script but its own, which is named by its digest."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.colours import colour_at, text_on
from halting.maps.viewers.page.data import embedded, page_data
from halting.maps.viewers.visible_text import visible

_WEB = Path(__file__).parent / "web"
_SCRIPTS = ("element", "data", "modes", "strip", "view", "details", "controls", "live", "main")
_LEVELS = 64  # colours of the scale; modes.js has the same number


def to_html(
    ponder_map: PonderMap,
    sequences: int | None = None,
    *,
    others: Sequence[PonderMap] = (),
    growth: Sequence[PonderMap] = (),
    live: bool = False,
    example: str = "",
) -> str:
    """The page. Its bar switches between steps, mass, predictions and errors at each step; pointing
    at a token, or moving to it by keys, tells all that is known of it.

    Args:
        ponder_map: the map that stands first.
        sequences: how many of its sequences are shown; None for all, up to `page_data.MOST_CELLS`
            token-steps.
        others: maps of the same examples by other runs, laid beside it. `metadata["run"]` names
            each.
        growth: maps of the same examples at earlier updates of its training, oldest first; a slider
            plays them, and ends with `ponder_map`. `metadata["update"]`, a whole number, says of
            each when it was made.
        live: with a box whose text is sent to the server that the page came from (`ponder serve`),
            and drawn.
        example: a text to think about, shown in the empty box.

    Raises:
        UsageError: for a map of other examples.
    """
    data = page_data(ponder_map, sequences, others, growth)
    connect = "; connect-src 'self'" if live else ""
    parts = {
        "live": "yes" if live else "no",
        "example": escape(example),
        "title": escape(
            visible(f"Ponder map: {ponder_map.metadata.get('run', 'a run')}", keep_spaces=True)
        ),
        "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {_digest(_script())}; style-src {_digest(_style())}{connect}",
        "style": _style(),
        "script": _script(),
        "about": embedded(data["about"]),
        "arrays": data["arrays"],
    }
    return _filled((_WEB / "page.html").read_text(encoding="utf-8"), parts)


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with each `{{name}}` replaced, in one pass, so that no part is looked into."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


@cache
def _script() -> str:
    return "\n".join((_WEB / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)


@cache
def _style() -> str:
    backgrounds = [colour_at(level / (_LEVELS - 1)) for level in range(_LEVELS)]
    scale = [
        f".k{level} {{ background-color: {each}; color: {text_on(each)}; }}"
        for level, each in enumerate(backgrounds)
    ]
    return _filled((_WEB / "page.css").read_text(encoding="utf-8"), {"scale": "\n".join(scale)})


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
