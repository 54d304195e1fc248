"""What a person sees while a run trains: a header, a line an evaluation, a live line between them,
warnings."""

import os
import sys
from typing import TextIO

from training.console.amounts import short_number

_BARS = "▁▂▃▄▅▆▇█"
_CLEAR = "\r\x1b[K"


class Screen:
    """Writes to a terminal, or plain lines to a pipe.

    Args:
        out: where to; None writes nothing (ranks other than the first).
        quiet: write warnings, and how it ended, alone.
    """

    def __init__(self, out: TextIO | None, quiet: bool = False):
        self.out = out
        self.quiet = quiet
        self.live = (
            not quiet and out is not None and out.isatty() and os.environ.get("TERM") != "dumb"
        )
        self.unicode = out is not None and "utf" in (out.encoding or "").lower()
        self._pending = False

    @property
    def colour(self) -> bool:
        """Whether to colour."""
        return self.live and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """Cells a line."""
        return os.get_terminal_size(self.out.fileno()).columns if self.live and self.out else 100

    def say(self, text: str = "", *, always: bool = False) -> None:
        """A line that stays.

        Args:
            text: of the line.
            always: it is written to a quiet screen too.
        """
        if self.out is None or (self.quiet and not always):
            return
        clear = _CLEAR if self._pending else ""
        self._pending = False
        encoding = self.out.encoding or "utf-8"
        self.out.write(clear + text.encode(encoding, "replace").decode(encoding) + "\n")
        self.out.flush()

    def warn(self, text: str) -> None:
        """A warning in plain words."""
        text = f"\x1b[33mwarning: {text}\x1b[0m" if self.colour else f"warning: {text}"
        self.say(text, always=True)

    def progress(self, text: str) -> None:
        """The live line, replaced by whatever comes next; nothing when piped."""
        if self.live and self.out is not None:
            self.out.write(_CLEAR + text[: self.width - 1])
            self.out.flush()
            self._pending = True

    def clear(self) -> None:
        """Removes the live line."""
        if self._pending and self.out is not None:
            self.out.write(_CLEAR)
            self.out.flush()
            self._pending = False


def standard_screen(rank: int, quiet: bool = False) -> Screen:
    """Standard output for the first rank, nothing for the others."""
    return Screen(sys.stdout if rank == 0 else None, quiet)


def position(update: int, updates: int, stretched_to: float | None = None) -> str:
    """`step  250/1500 17%`; `step  250 42%` of a run that a limit ends, where 42 % of it are
    spent."""
    if stretched_to is not None:
        return f"step {update:>{len(str(updates))}} {stretched_to:4.0%}"
    return f"step {update:>{len(str(updates))}}/{updates} {update / updates:4.0%}"


def evaluation_line(
    where: str,
    figures: dict[str, float],
    survival: list[float],
    max_steps: int,
    rate: float,
    eta: float,
) -> str:
    """One line an evaluation.

    Args:
        where: the run stands, as `position` says it.
        figures: of a tally.
        survival: the share of tokens that run step 1, 2, … N.
        rate: training tokens a second.
        eta: seconds to go.
    """
    return "  ".join(
        (
            where,
            f"loss {figures['loss']:.3f}",
            *([f"{figures['bits_per_byte']:.3f} bits/byte"] if "bits_per_byte" in figures else []),
            f"tok {figures['accuracy']:.1%}",
            f"seq {figures['sequence_accuracy']:.1%}",
            f"ponder {figures['mean_ponder']:.2f}/{max_steps} {bars(survival)}",
            f"halted<max {1 - figures['share_at_max']:.0%}",
            f"{short_number(rate)} tok/s",
            f"eta {clock(eta)}",
        )
    )


def bars(shares: list[float], most: int = 12) -> str:
    """Shares from 0 to 1 as a row of at most `most` little bars; only exact zeros are blank."""
    if len(shares) > most:
        shares = [shares[number * len(shares) // most] for number in range(most)]
    return "".join(
        _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)] if share > 0 else " "
        for share in shares
    )


def clock(seconds: float) -> str:
    """72 → 1:12, 3700 → 1:01:40."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
