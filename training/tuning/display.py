"""What a person sees while a sweep works: a live table on a terminal, a line a trial elsewhere; and
how it ended."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from training.console.command_text import command_text
from training.console.screen import clock
from training.tuning.measured import bend, measured
from training.tuning.space import label
from training.tuning.sweep import Claim, Sweep
from training.tuning.worker import SweepJob
from training.tuning.written_out import command, noise_note, table, write_out

_BETWEEN_TABLES = 1.0  # seconds
_PIPED = 120  # columns


class Display:
    """Shows a sweep; the live table is there while it is entered.

    Args:
        sweep: which.
    """

    def __init__(self, sweep: Sweep):
        self.sweep = sweep
        self.console = Console(file=sys.stdout, highlight=False)
        if not self.console.is_terminal:
            self.console.width = _PIPED
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=True)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True, markup=False)
        sys.stdout.flush()  # whoever reads a pipe or a file sees it now

    def tell(self, what: str, claim: Claim) -> None:
        """That a trial has ended, and how."""
        about = self.sweep.study.trials[claim.number].user_attrs
        found = f": {self._row(about['figures'])}" if "figures" in about else ""
        self.say(f"trial {claim.number} ({label(claim.point)}, seed {claim.seed}) {what}{found}")

    def look(self, running: Sequence[SweepJob]) -> None:
        """Draws the table anew, once a second."""
        now = time.monotonic()
        if self._live is None or now - self._drawn_at < _BETWEEN_TABLES:
            return
        self._drawn_at = now
        counts = self.sweep.counts()
        at_work = [
            f"{label(job.claim.point)} seed {job.claim.seed} {clock(now - job.began)}"
            for job in running
        ]
        says = ", ".join(f"{counts[name]} {name}" for name in ("done", "waiting", "failed"))
        line = Text(f"{says}, {clock(now - self._began)} · now: {' | '.join(at_work)}")
        self._live.update(Group(table(measured(self.sweep), "so far"), line), refresh=True)

    def end(self, stopped: str | None) -> int:
        """Writes the sweep's files, tells how it ended and what is next; gives the exit code.

        Args:
            stopped: by which signal; None where the work was done.
        """
        settings = measured(self.sweep)
        counts = self.sweep.counts()
        written = write_out(self.sweep)
        again = command_text("ponder", "tune", "--out", self.sweep.folder)
        if settings:
            self.console.print()
            self.console.print(
                table(settings, "Accuracy against compute (★ knee, • front, ✗ collapsed)")
            )
        self.say(f"\nwritten: {' '.join(map(str, written))}")
        if counts["working"]:
            self.say(
                f"{counts['working']} trials are at work in other processes; when they are done: "
                f"{again}"
            )
        if counts["failed"]:
            self.say(
                f"{counts['failed']} trials failed; their logs are in {self.sweep.trials_folder}"
            )
        if stopped is not None:
            self.say(
                f"stopped after {stopped}: {counts['done']} trials are done, {counts['waiting']} "
                f"are to come; those that were at work start anew\nto go on: {again}"
            )
            return 130
        if settings:
            chosen = bend(settings)
            says = (
                "the knee"
                if chosen is not None
                else "the best (there is no knee: every setting collapsed)"
            )
            self.say(
                f"to train {says}:\n  "
                f"{command(self.sweep, 'knee' if chosen is not None else 'best')}"
            )
            if (note := noise_note(self.sweep, settings)) is not None:
                self.say(f"note: {note}")
        return 1 if counts["failed"] else 0

    def _row(self, figures: dict) -> str:
        quality = self.sweep.settings().quality
        shown = f"{figures[quality]:.3f} bits" if quality == "bits" else f"{figures[quality]:.2%}"
        marks = ", collapsed" if figures["collapsed"] else ""
        return f"{shown} at {figures['mean_steps']:.2f} of {figures['max_steps']} steps{marks}"
