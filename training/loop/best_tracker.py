"""The best evaluation of a run so far, and how long ago it was."""

import math
from pathlib import Path
from typing import Any

from training.checkpoints import checkpoint
from training.config.best_metric import HIGHER_IS_BETTER
from training.config.run_config import RunConfig
from training.distributed import collectives


class BestTracker:
    """Judges each evaluation that falls on its turn by one figure, the same on all ranks.

    Args:
        config: the run; without `best_by` nothing is judged.
    """

    def __init__(self, config: RunConfig):
        self.by = config.evaluation.best_by
        self.patience = config.evaluation.patience
        self.update: int | None = None
        self.value = math.nan
        self.waited = 0

    def observe(self, figures: dict[str, float], update: int) -> None:
        """Takes in an evaluation. What is no number is never better, and a tie is none."""
        if self.by is None:
            return
        value = figures[self.by]
        gain = value - self.value if HIGHER_IS_BETTER[self.by] else self.value - value
        if math.isfinite(value) and (self.update is None or gain > 0):
            self.update = update
            self.value = value
            self.waited = 0
        else:
            self.waited += 1

    @property
    def exhausted(self) -> bool:
        """Whether as many evaluations as patience allows have brought nothing better."""
        return self.patience is not None and self.waited >= self.patience

    def says(self) -> str:
        """Why a run ends by it, in words."""
        best = "" if self.update is None else f" than {self.value:.6g} at update {self.update}"
        return f"early: {self.waited} evaluations without a better {self.by}{best}"

    def state_dict(self) -> dict[str, Any] | None:
        """What a checkpoint keeps; None where nothing is judged."""
        if self.by is None:
            return None
        value = self.value if self.update is not None else None
        return {"by": self.by, "update": self.update, "value": value, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any] | None, checkpoints: Path) -> None:
        """Goes on from there; called by all ranks. Begins anew where another figure was judged, or
        the best checkpoint is no longer there."""
        self.update = None
        self.value = math.nan
        self.waited = 0
        if not state or state["by"] != self.by:
            return
        there = state["update"] is None or checkpoint.folder_of(
            checkpoints, state["update"]
        ) in checkpoint.found(checkpoints)
        if collectives.broadcast_object(there):
            self.update = state["update"]
            self.value = math.nan if state["value"] is None else state["value"]
            self.waited = state["waited"]
