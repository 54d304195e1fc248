"""A key of a ds_config, and what becomes of it."""

from dataclasses import dataclass
from typing import Literal

Fate = Literal["taken", "passed", "ignored", "refused"]

OURS_SAVED = "checkpoints are the run's own: --save-every and its like"
NO_DISK = "nothing is read from or written to a disk while a run trains"
GONE = "DeepSpeed has removed it"


@dataclass(frozen=True)
class Key:
    """What becomes of a key.

    Args:
        path: with its section, dots between.
        fate: "taken": it becomes a value of the run, where no flag says otherwise; "passed":
            DeepSpeed gets it as it is; "ignored": without effect in a run of ours, which is said;
            "refused": where it asks for something.
        says: of what is taken, the flag; of the others, why.
        fix: of what is refused, what to write instead.
    """

    path: str
    fate: Fate
    says: str = ""
    fix: str = ""

    @property
    def section(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def keys(section: str, fate: Fate, names: str, says: str = "", fix: str = "") -> list[Key]:
    """Keys of one section that have the same fate.

    Args:
        section: where they stand; "" for the top.
        fate, says, fix: as in `Key`.
        names: of all of them, spaces between.
    """
    prefix = f"{section}." if section else ""
    return [Key(prefix + name, fate, says, fix) for name in names.split()]
