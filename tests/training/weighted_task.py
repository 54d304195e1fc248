"""A task whose targets weigh unequally, and whose batches carry whatever they are asked to."""

import numpy as np
import torch

from training.tasks.addition import Addition
from training.tasks.task import Batch


class Weighted(Addition):
    """Addition whose targets weigh 0 to 1, of each example its own; some weigh nothing.

    Args:
        digits: of the longest number.
        extra: the name of another field that its batches carry.
        seed: of the examples.
    """

    def __init__(self, digits: int = 3, extra: str = "", seed: int = 0):
        super().__init__(digits, seed=seed)
        self.extra = extra

    def batch(self, split: str, index: int, size: int) -> Batch:
        plain = super().batch(split, index, size)
        rows, length = plain.targets.shape
        weights = torch.stack(
            [
                torch.from_numpy(np.random.default_rng(index + row).random(length))
                for row in range(rows)
            ]
        ).float()
        carried = plain.carried() | {"loss_weights": torch.where(weights < 0.3, 0.0, weights)}
        made = {
            "documents": {"documents": torch.arange(length).expand(rows, -1) // 3},
            "source": {
                "source": torch.arange(index, index + rows)[:, None] + torch.arange(5),
                "source_valid": torch.ones(rows, 5, dtype=torch.bool),
            },
            "noise_level": {"noise_level": torch.arange(index, index + rows).float()},
        }
        return Batch(**carried, **made.get(self.extra, {}))


WEIGHTED = f"{__file__}:Weighted"
