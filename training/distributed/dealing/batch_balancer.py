"""Gives this rank its rows of each update, and learns from what they took."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.distributed import collectives
from training.distributed.dealing.deal import deal, in_order
from training.distributed.dealing.predictor import Predictor
from training.tasks.task import Batch, Task


@dataclass(frozen=True)
class RankBatches:
    """What a rank is dealt for an update.

    Args:
        batches: its rows, a micro-batch each, on the engine's device.
        target_weight, valid: of the whole global batch what its targets weigh (their number where
            each weighs 1) and its tokens; 1 where there is none. float64, on that device.
    """

    batches: list[Batch]
    target_weight: Tensor
    valid: Tensor


class BatchBalancer:
    """Deals the examples of an update to ranks and micro-batches, as many to each. The update's
    examples are the same set however they are dealt, and its loss and gradient are sums over them:
    so they are the same up to rounding.

    Each rank predicts the costs of the share that it would have had by order; they ride in the one
    sum over the ranks that begins every update, so that all know the same costs and make the same
    deal.

    Args:
        task: makes the examples.
        predictor: guesses their costs; None deals by order, and so does a single rank, which waits
            for nobody.
        micro_batches: backward passes an update.
        size: rows in each.
    """

    def __init__(self, task: Task, predictor: Predictor | None, micro_batches: int, size: int):
        self.task = task
        self.micro_batches = micro_batches
        self.size = size
        self.predictor = predictor if collectives.world_size() > 1 else None
        self._counted: Tensor | None = None

    def batches(self, first: int, device: torch.device) -> RankBatches:
        """This rank's rows of an update.

        Args:
            first: the number of its first example.
            device: where they go.
        """
        ranks = collectives.world_size()
        rank = collectives.rank()
        rows = self.micro_batches * ranks * self.size
        own = in_order(rows, self.micro_batches, ranks)[:, rank]
        own_batches = [
            self.task.batch("train", first + int(numbers[0]), self.size) for numbers in own
        ]
        counts = torch.stack(
            [torch.stack((batch.target_weight, batch.valid.sum())) for batch in own_batches]
        ).sum(0)
        costs = torch.zeros(0 if self.predictor is None else rows, dtype=torch.float64)
        if self.predictor is not None:
            costs[own.flatten()] = torch.cat([self.predictor.costs(batch) for batch in own_batches])
        agreed = collectives.all_reduce_sum(torch.cat((counts, costs)).to(device))
        target_weight, valid = torch.where(agreed[:2] > 0, agreed[:2], 1.0).unbind()
        if self.predictor is not None:
            dealt = deal(agreed[2:].cpu().numpy(), self.micro_batches, ranks)[:, rank]
            if not np.array_equal(dealt, own):
                own_batches = [
                    self.task.examples("train", (first + numbers).tolist()) for numbers in dealt
                ]
        return RankBatches([batch.to(device) for batch in own_batches], target_weight, valid)

    def count(self, batch: Batch, steps: Tensor) -> None:
        """Takes note of what a micro-batch's tokens took."""
        if self.predictor is not None:
            sums = self.predictor.count(batch, steps)
            self._counted = sums if self._counted is None else self._counted + sums

    def counted(self, device: torch.device) -> Tensor:
        """What this rank's micro-batches have taught since `learn`: to be summed over the ranks.
        Empty where nothing is to be learned."""
        return (
            torch.zeros(0, dtype=torch.float64, device=device)
            if self._counted is None
            else self._counted
        )

    def learn(self, sums: Tensor) -> None:
        """Takes in what `counted` gave, summed over the ranks."""
        self._counted = None
        if self.predictor is not None and sums.numel():
            self.predictor.learn(sums)

    def state_dict(self) -> dict | None:
        """Of the predictor."""
        return self.predictor.state_dict() if self.predictor is not None else None

    def load_state_dict(self, state: dict | None) -> None:
        """Restores it, where it learns: another may have been chosen since."""
        if (
            self.predictor is not None
            and state is not None
            and self.predictor.state_dict() is not None
        ):
            self.predictor.load_state_dict(state)
