"""The loss scale of fp16: gradients are computed of the loss times a power of two, and divided by
it afterwards."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from halting.errors import UsageError
from training.distributed import collectives

FILE = "loss_scale.json"


@dataclass
class LossScale:
    """A scale that follows the gradients (Micikevicius et al. 2018, section 3.2; arXiv 1710.03740).

    It starts high. Where a gradient overflows, the update is skipped and the scale is halved; after
    so many updates without it is doubled. So it stays near the largest that the gradients bear, and
    small gradients do not vanish. (`torch.amp.GradScaler` does the same. This one goes with any
    engine and any ZeRO stage, so a run may change between them.)

    Args:
        scale: now; powers of two, so that nothing is rounded by it.
        good: updates since it was last changed.
        window: updates without an overflow after which it is doubled.
        least, most: its bounds.
    """

    scale: float = 2.0**16
    good: int = 0
    window: int = 1000
    least: float = 1.0
    most: float = 2.0**24

    def update(self, overflowed: bool) -> None:
        """After an update; all ranks say the same."""
        if overflowed:
            self.scale = max(self.least, self.scale / 2)
            self.good = 0
            return
        self.good += 1
        if self.good >= self.window:
            self.scale = min(self.most, self.scale * 2)
            self.good = 0

    def save(self, folder: Path) -> None:
        """Writes it into a checkpoint; called by rank 0."""
        (folder / FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Takes what `save` wrote; stays as it is where the checkpoint is of a run in another
        precision. Called by all ranks, which do alike.

        Raises:
            UsageError: on all ranks, for a file that cannot be read.
        """
        path = folder / FILE
        found = collectives.broadcast_object(_read(path) if collectives.rank() == 0 else None)
        if isinstance(found, str):
            raise UsageError(
                f"{path} cannot be read: {found}.",
                "It holds the loss scale of fp16, without which the run would not go on as it was.",
                "Go on from another checkpoint of the run: they stand in its checkpoints folder.",
            )
        self.scale, self.good = found or (self.scale, self.good)


def _read(path: Path) -> tuple[float, int] | str | None:
    """Scale and good updates; in words, why not; None where there is no such file."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return float(about["scale"]), int(about["good"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return repr(error)
