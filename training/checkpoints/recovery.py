"""Taking a run back from a collapse: to the last checkpoint before it, with a lower penalty and
halting bias."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training.checkpoints import checkpoint, manifest
from training.checkpoints.progress import Progress
from training.distributed import collectives
from training.engine.checkpoint_format import OPTIMIZER, WEIGHTS
from training.engine.engine import Engine

MOST = 4
"""After so many times, a run that collapses again is stopped."""
PENALTY_FACTOR = 1 / 3
_LOWER_BY = 2.0
_AT_MOST = -1.0  # at −1 a token starts with four steps: docs/halting_rules.md
_BIAS = re.compile(r"recurrence\.rule\.(?:\w+\.)*gate\.bias")


@dataclass(frozen=True)
class TakenBack:
    """Where a run goes on from.

    Args:
        progress: as the checkpoint has it.
        bias: the halting bias there, and what it is now; None for a rule without one.
    """

    progress: Progress
    bias: tuple[float, float] | None

    def says(self, count: int, collapsed_at: int, moved: str) -> str:
        """What was done, in words.

        Args:
            count: the how-manieth recovery it is.
            collapsed_at: the update of the collapse.
            moved: the penalty before and now.
        """
        bias = f", halting bias {self.bias[0]:.2g} → {self.bias[1]:.2g}" if self.bias else ""
        return (
            f"recovering ({count} of {MOST}) from the collapse at update {collapsed_at}: going on "
            f"after update {self.progress.update}, {moved}{bias}"
        )


def take_back(checkpoints: Path, engine: Engine) -> TakenBack | None:
    """Puts the engine where the last good checkpoint stood, with a lower halting bias, and removes
    those that came after it; called by all ranks. None where there is no good one.
    """
    first = collectives.rank() == 0
    there = collectives.broadcast_object(list(checkpoint.good_ones(checkpoints)) if first else None)
    good = next((each for each in there if not manifest.damage(each)), None)
    if good is None:
        return None
    beside = checkpoints / f"{checkpoint.PARTIAL}recovery"
    told = collectives.broadcast_object(_copy_lowered(good, beside) if first else None)
    progress = checkpoint.load(beside, engine)
    collectives.barrier()
    if first:
        shutil.rmtree(beside)
        checkpoint.drop_after(good)
    collectives.barrier()
    return TakenBack(progress, told)


def _copy_lowered(good: Path, beside: Path) -> tuple[float, float] | None:
    """A copy of a checkpoint in which the halting bias is lower, and the optimizer has
    forgotten where it was going."""
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(good, beside)
    weights = load_file(beside / WEIGHTS)
    with safe_open(beside / OPTIMIZER, "pt") as file:
        metadata = file.metadata()
        kept = {full: file.get_tensor(full) for full in file.keys()}  # noqa: SIM118
    named = next(
        (name for name, each in weights.items() if _BIAS.fullmatch(name) and each.numel() == 1),
        None,
    )
    if named is None:
        return None
    before = float(weights[named])
    after = min(before - _LOWER_BY, _AT_MOST)
    weights[named].fill_(after)
    for full, values in kept.items():
        if full.rpartition(".")[0] == named and values.shape == weights[named].shape:
            values.zero_()
    save_file(weights, beside / WEIGHTS)
    save_file(kept, beside / OPTIMIZER, metadata)
    return before, after
