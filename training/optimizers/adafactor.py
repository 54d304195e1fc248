"""Adaptive learning rates in sublinear memory."""

from collections.abc import Iterable
from typing import Any

import torch


class Adafactor(torch.optim.Adafactor):
    """The second moment of a matrix as the product of its rows' and its columns' means (Shazeer and
    Stern 2018): R + C numbers where AdamW keeps 2·R·C. Steps are relative to the size of the
    weights.

    Args:
        params: groups of parameters.
        lr: the learning rate, set anew at every update; at most this, and 1/√t.
        weight_decay: of groups that do not say their own.
        beta2_decay: the exponent by which the memory of the square grows, below 0.
        clip_threshold: the largest root mean square of an update.
    """

    elementwise = False

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        beta2_decay: float = -0.8,
        clip_threshold: float = 1.0,
    ):
        super().__init__(
            params, lr=lr, beta2_decay=beta2_decay, d=clip_threshold, weight_decay=weight_decay
        )
