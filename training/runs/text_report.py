"""What a text cost a language model, as tables."""

from collections.abc import Sequence
from typing import Any

from halting.maps.estimate import Estimate
from training.console.amounts import counted
from training.console.table import markdown

_MOST_TYPES = 12

TABLES = {
    "position": ("by_position", "tokens of the document before it"),
    "type": ("by_type", "kind of target"),
}
"""By name: the key of the figures, and the head of the first column."""


def text_told(text: dict[str, Any]) -> list[str]:
    """Paragraphs and tables in Markdown, of what `TextLosses.figures` gives."""
    return [
        f"{whole_told(text)} Both tables tell bits a byte with the same kind of interval, bits a "
        "target, and the executed steps of the tokens that predict it.",
        *(markdown(*text_table(text, name)) for name in TABLES),
        documents_told(text),
    ]


def whole_told(text: dict[str, Any]) -> str:
    """The figure with its interval, in a sentence."""
    number = counted(int(text["by_document"]["documents"]), "document")
    estimate = Estimate(**text["all"]["bits_per_byte"])
    if estimate.low is None:
        return f"{estimate:.4f} bits a byte; {number}, so that no interval is known."
    return f"{estimate:.4f} bits a byte, with the interval of 95 % over {number}."


def documents_told(text: dict[str, Any]) -> str:
    """How documents differ, in a sentence."""
    shares = {name: value for name, value in text["by_document"].items() if name != "documents"}
    told = ", ".join(f"{value:.3f} {name}" for name, value in shares.items())
    return f"Of the documents, sorted by their bits a byte: {told}."


def text_table(
    text: dict[str, Any], name: str
) -> tuple[tuple[str, ...], Sequence[tuple[str, ...]]]:
    """Head and rows of one of `TABLES`."""
    key, head = TABLES[name]
    rows = [
        (
            shown(row["name"]),
            f"{row['targets']:,}",
            format(Estimate(**row["bits_per_byte"]), ".3f"),
            f"{row['bits']:.3f}",
            f"{row['steps']:.2f}",
        )
        for row in text[key][: _MOST_TYPES if key == "by_type" else None]
    ]
    return (head, "targets", "bits a byte", "bits a target", "steps"), rows


def shown(name: str) -> str:
    """A token's text as a type, where a blank would not be seen."""
    return {"\n": "⏎", " ": "␣", "\t": "⇥", "|": "\\|"}.get(name, name)
