"""Formulas of the documentation site: `$…$` and blocks of math become MathML, which browsers draw
without any script."""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

_INLINE = r"(?<![\\$])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\d)"


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        return self.md.htmlStash.store(_mathml(m[1], "inline")), m.start(0), m.end(0)


class Formulas(Extension):
    """Reads `$…$`."""

    def extendMarkdown(self, md: Markdown) -> None:
        # Below code (190), so that a `$` in code stays; above escapes (180), as \{ is a formula's.
        md.inlinePatterns.register(_Inline(_INLINE, md), "formula", 185)


def block(source: str, *_: Any, **__: Any) -> str:
    """A fenced block of math, as `pymdownx.superfences` has it formatted."""
    # Wider than a page, it is scrolled alone.
    return f'<div class="formula" style="overflow-x: auto">{_mathml(source, "block")}</div>'


def _mathml(source: str, display: str) -> str:
    # The converter knows `aligned` under the name that it has outside of other formulas, and
    # draws braces without the sizes that may stand before them.
    plain = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{align*}", source)
    plain = plain.replace(r"\arg", r"\operatorname{arg}")
    plain = re.sub(r"\\[Bb]igg?[lr]?(?=[\\(\[|)\]])", "", plain)
    return convert(plain, display=display)


def makeExtension(**options: Any) -> Formulas:
    """What Markdown asks a module of extensions for."""
    return Formulas(**options)
