"""Examples whose loss is not finite, at places that a run may come to again."""

from collections.abc import Callable
from dataclasses import replace

import torch

from act.models.looped_model import ModelOutput
from halting.costs.cost import PonderCost
from training.objectives import CrossEntropy, Objective, Terms
from training.tasks import ParityVector
from training.tasks.task import Batch

MARK = 9
"""No vector holds it otherwise."""


class MarkedVectors(ParityVector):
    """Parity of short vectors, of which some training examples are marked.

    Args:
        first, last: the marked examples of the training split.
        forever: it and all after it are marked too; −1 for none.
        seed: of the examples.
    """

    def __init__(self, first: int = 0, last: int = -1, forever: int = -1, seed: int = 0):
        super().__init__(8, most=4, test_fewest=5, test_most=8, seed=seed)
        self.first, self.last, self.forever = first, last, forever

    def batch(self, split: str, index: int, size: int) -> Batch:
        whole = super().batch(split, index, size)
        numbers = torch.arange(index, index + size)
        marked = (numbers >= self.first) & (numbers <= self.last)
        marked = (split == "train") & (marked | ((self.forever >= 0) & (numbers >= self.forever)))
        return replace(whole, tokens=torch.where(marked[:, None, None], MARK, whole.tokens))


def damaging(value: float) -> Callable[..., Terms]:
    """For `CrossEntropy.__call__`: the task loss is multiplied by a value where a marked example is
    among those of the batch."""

    def damaged(
        self: CrossEntropy, output: ModelOutput, batch: Batch, cost: PonderCost | None
    ) -> Terms:
        terms = Objective.__call__(self, output, batch, cost)
        factor = value if bool((batch.tokens == MARK).any()) else 1.0
        return replace(terms, task=terms.task * factor)

    return damaged
