"""Adam for parameters that lie on the CPU."""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_NUMBERS = itertools.count(1_000_000)  # far from those that DeepSpeed's own class gives


class CPUAdam(torch.optim.Optimizer):
    """AdamW's formula by DeepSpeed's C++ kernel (Ren et al. 2021, ZeRO-Offload, section 5.1): one
    pass over weight, gradient and moments, in the processor's vector instructions and its threads.

    It keeps what `AdamW` keeps, and rounds otherwise. The kernel is compiled when it is first used
    on a machine, which takes a minute and a C++ compiler; that is why a run has to ask for it.

    Args:
        params: groups of parameters, on the CPU, as ZeRO's offload has them.
        lr: the learning rate, set anew at every update.
        weight_decay: of groups that do not say their own.
        beta1: memory of the gradient's mean.
        beta2: memory of the gradient's square.
        eps: added to the root of the second moment.

    Attributes:
        kernel: DeepSpeed's, which an engine hands over; nothing can be updated before.
    """

    elementwise = True
    _made = False

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
    ):
        for name, value in (("beta1", beta1), ("beta2", beta2)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"Invalid {name}: {value}, a number from 0 to below 1 is taken")
        if eps < 0.0:
            raise ValueError(f"Invalid eps: {eps}, a number from 0 on is taken")
        super().__init__(
            params, {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
        )
        self.kernel: Any = None
        self._number = next(_NUMBERS)

    def __del__(self) -> None:
        if self._made:
            self.kernel.destroy_adam(self._number)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates the parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32)
        state["step"] += 1
        if parameter.is_meta:
            return  # it is only asked what it keeps
        assert parameter.is_contiguous(), "the kernel would update a copy, which nobody reads"
        if not self._made:
            # What it is made with counts for nothing: each update hands its own numbers over.
            self.kernel.create_adam(
                self._number, group["lr"], *group["betas"], group["eps"], 0.0, True, False
            )
            self._made = True
        self.kernel.adam_update(
            self._number,
            state["step"],
            group["lr"],
            *group["betas"],
            group["eps"],
            group["weight_decay"],
            True,  # the moments' bias is corrected
            parameter.data,
            gradient.data,
            state["exp_avg"],
            state["exp_avg_sq"],
        )
