"""Orthogonalised momentum for the matrices of the loop."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from training.optimizers.adamw import AdamW


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the weight matrices of the looped block, AdamW for the rest.

    The momentum of a matrix is made orthogonal by Newton-Schulz iterations, and scaled by
    0.2·√max(R, C), so that one learning rate serves both (Liu et al. 2025, equation 4). One moment
    a matrix. It needs whole matrices.

    Args:
        params: groups of parameters; those with `muon: True` hold the matrices.
        lr: the learning rate, set anew at every update.
        weight_decay: of groups that do not say their own.
        momentum: memory of a matrix's gradient.
        nesterov: look ahead along the momentum.
        ns_steps: Newton-Schulz iterations.
        beta1: AdamW's memory of the gradient's mean.
        beta2: AdamW's memory of the gradient's square.
        eps: added to the root of AdamW's second moment.
    """

    elementwise = False

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
    ):
        groups = list(params)
        matrices = [group for group in groups if group.get("muon", False)]
        rest = [group for group in groups if not group.get("muon", False)]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(
                torch.optim.Muon(
                    matrices,
                    lr=lr,
                    weight_decay=weight_decay,
                    momentum=momentum,
                    nesterov=nesterov,
                    ns_steps=ns_steps,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if rest:
            self._parts.append(AdamW(rest, lr, weight_decay, beta1, beta2, eps))
        # The groups are the same dicts in both parts and here, so that a learning rate set here
        # is theirs; and so is the state.
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        for part in self._parts:
            part.state = self.state

    @staticmethod
    def parameter_groups(model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The groups, those that hold matrices of the looped block each divided in two."""
        block: Any = model.get_submodule("recurrence.block")
        looped = {id(parameter) for parameter in block.parameters()}
        divided = []
        for group in groups:
            for muon in (True, False):
                chosen = [
                    parameter
                    for parameter in group["params"]
                    if (parameter.dim() == 2 and id(parameter) in looped) == muon
                ]
                divided.append({**group, "params": chosen, "muon": muon})
        return [group for group in divided if group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts}
