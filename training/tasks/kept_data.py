"""What a run keeps of the data that it was trained on, so that it can be read without them, and no
other data pass for them."""

from dataclasses import dataclass
from typing import Any

from halting.errors import UsageError
from training.tasks.data_identity import DataIdentity

ALLOW = "--allow-changed-data"


@dataclass(frozen=True)
class KeptData:
    """What is known of a task's data before they are read again.

    Args:
        run: whose they are, for messages.
        kind: the task's, as the config names it.
        identity: what was read; None where the task reads nothing.
        vocabulary: what `Task.vocabulary` gave.
        allow_changed: other data may be read instead.
    """

    run: str
    kind: str
    identity: DataIdentity | None
    vocabulary: Any = None
    allow_changed: bool = False

    def check(self, now: DataIdentity | None) -> None:
        """Refuses other data than those that the run was trained on, unless they are allowed.

        Raises:
            UsageError: naming the first file that differs, with both digests.
        """
        if self.allow_changed or self.identity is None or now is None:
            return
        changes = now.changes(self.identity)
        if not changes:
            return
        name, (then, there) = next(iter(changes.items()))
        more = [other for other in changes if other != name]
        others = f" So are {_few(more)}." if len(more) > 1 else f" So is {more[0]}." if more else ""
        raise UsageError(
            f"{now.path_of(name)} has changed: it is {there or 'not there'} now, and was "
            f"{then or 'not there'} when {self.run} was trained.{others}",
            "What a run has measured and learned is of the data as they were; others would pass "
            "for them.",
            f"Bring them back as they were, or write {ALLOW} if the change is meant.",
        )


def _few(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
