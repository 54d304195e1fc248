"""The seam of a predictor: what a sequence will cost, before it is computed."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from training.tasks.task import Batch


class Predictor(ABC):
    """Guesses the cost of sequences, in any unit that is the same for all: executed token-steps,
    times a constant.

    One that learns is told by `count` what the tokens of this rank took, and by `learn` the sums
    over all ranks: so it knows the same on every rank, and its state is the same whoever saves it.
    """

    @abstractmethod
    def costs(self, batch: Batch) -> Tensor:
        """[B] float64 on the CPU: of each row of a batch on the CPU; finite, 0 or more."""

    def count(self, batch: Batch, steps: Tensor) -> Tensor:
        """What a micro-batch teaches, as sums that add up over micro-batches and ranks: float64,
        whole numbers, always as many. Nothing by default.

        Args:
            batch: this rank's rows, on its device.
            steps: [B L] executed steps of its tokens, there too.
        """
        return torch.zeros(0, dtype=torch.float64, device=steps.device)

    def learn(self, sums: Tensor) -> None:
        """Takes in the sums of an update, over all ranks."""

    def state_dict(self) -> dict | None:
        """What it has learned, as JSON can hold it; None where it does not learn."""
        return None

    def load_state_dict(self, state: dict) -> None:
        """Restores what `state_dict` gave."""
