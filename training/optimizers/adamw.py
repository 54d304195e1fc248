"""Adam with decoupled weight decay."""

from collections.abc import Iterable
from typing import Any

import torch


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): two moments a parameter.

    Args:
        params: groups of parameters.
        lr: the learning rate, set anew at every update.
        weight_decay: of groups that do not say their own.
        beta1: memory of the gradient's mean.
        beta2: memory of the gradient's square.
        eps: added to the root of the second moment.
    """

    elementwise = True

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
    ):
        super().__init__(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
