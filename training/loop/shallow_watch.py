"""Noticing between evaluations that tokens have come to stop at once."""

from halting.rule import HaltingRule
from training.loop.update import Update

_SHALLOW = 1.02  # mean steps
_UPDATES = 10  # in a row


class ShallowWatch:
    """Counts the updates whose tokens stopped at step 1.

    Args:
        rule: one without weights learns nothing, and is not watched.
    """

    def __init__(self, rule: HaltingRule):
        self.adaptive = any(True for _ in rule.parameters())
        self.count = 0

    def turned(self, measured: Update) -> bool:
        """Whether training tokens have just stopped at step 1 for some updates, so that it is time
        to look."""
        shallow = self.adaptive and measured.depth > 1 and measured.mean_steps <= _SHALLOW
        self.count = self.count + 1 if shallow else 0
        return self.count == _UPDATES

    def reset(self) -> None:
        """Counts anew: the run was taken back."""
        self.count = 0
