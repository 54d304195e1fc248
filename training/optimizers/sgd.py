"""Gradient descent with momentum."""

from collections.abc import Iterable
from typing import Any

import torch


class SGD(torch.optim.SGD):
    """Gradient descent with momentum: one moment a parameter, none where momentum is 0.

    Args:
        params: groups of parameters.
        lr: the learning rate, set anew at every update.
        weight_decay: of groups that do not say their own; added to the gradient.
        momentum: memory of the updates.
        nesterov: look ahead along the momentum.
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.9,
        nesterov: bool = False,
    ):
        super().__init__(
            params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )
