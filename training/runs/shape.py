"""How many ranks at which ZeRO stage: what a run may change whenever it goes on."""

from dataclasses import dataclass
from pathlib import Path

from training.checkpoints.progress import read_progress
from training.distributed import collectives
from training.engine.engine import Engine


@dataclass(frozen=True)
class Shape:
    """The shape of a run, or of the run that wrote a checkpoint.

    Args:
        ranks: processes that train together.
        stage: ZeRO's; 0 also without DeepSpeed.
    """

    ranks: int
    stage: int

    def __str__(self) -> str:
        return f"{self.ranks} rank{'s' if self.ranks > 1 else ''} at ZeRO stage {self.stage}"


def here(engine: Engine) -> Shape:
    """The shape that trains now."""
    return Shape(collectives.world_size(), engine.stage)


def written(checkpoint: Path) -> Shape:
    """The shape that wrote a checkpoint."""
    about = read_progress(checkpoint)
    return Shape(about.ranks, about.stage)
