"""What of a folder is not read, and why: counted and named."""

from dataclasses import dataclass, field
from pathlib import Path

from training.console.text_fault import Fault

_NAMED = 3
_REPLACE = " --data.errors replace reads such files."
_REASONS = {  # one, several, what can be done beside the remedy of the fault
    "compressed": ("compressed file", "compressed files", ""),
    "wide": ("file in UTF-16 or UTF-32", "files in UTF-16 or UTF-32", ""),
    "binary": ("binary file", "binary files", ""),
    "one-byte": ("file in another encoding", "files in another encoding", _REPLACE),
    "nul": ("file with NUL bytes", "files with NUL bytes", _REPLACE),
    "cut": ("file that ends within a character", "files that end within a character", _REPLACE),
    "stray": (
        "file with bytes that are not UTF-8",
        "files with bytes that are not UTF-8",
        _REPLACE,
    ),
    "linked": ("linked folder", "linked folders", " Name it with --data.text, or copy it in."),
    "broken": ("link that leads nowhere", "links that lead nowhere", ""),
    "special": ("device or pipe", "devices and pipes", ""),
}


@dataclass
class LeftOut:
    """Names by reason.

    Args:
        folder: what is read.
        names: paths below it.
        first: for each reason that is a fault of a text, the first one's.
    """

    folder: Path
    names: dict[str, list[str]] = field(default_factory=dict)
    first: dict[str, Fault] = field(default_factory=dict)

    def add(self, reason: str, name: str, fault: Fault | None = None) -> None:
        """One more."""
        self.names.setdefault(reason, []).append(name)
        if fault is not None:
            self.first.setdefault(reason, fault)

    def lines(self) -> tuple[str, ...]:
        """What is left out, a line a reason."""
        return tuple(
            self._line(reason, self.names[reason]) for reason in _REASONS if reason in self.names
        )

    def _line(self, reason: str, names: list[str]) -> str:
        one, several, remedy = _REASONS[reason]
        noun = one if len(names) == 1 else several
        line = f"left out {len(names)} {noun}: {few(names)}."
        if (fault := self.first.get(reason)) is not None:
            advice = fault.remedy_for(self.folder / names[0])
            line += f" {names[0]}, {fault.place}: {fault.looks_like} {advice}"
        return line + remedy


def few(names: list[str]) -> str:
    """a, b, c and 27 more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
