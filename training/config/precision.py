"""What numbers a run computes in: the named choices, and what each of them needs."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from halting.errors import UsageError

Precision = Literal["float32", "bf16", "bf16_weights", "fp16"]


@dataclass(frozen=True)
class Arithmetic:
    """What a precision means. The halting arithmetic is float32 under all of them (law 5).

    Args:
        autocast: what matrix products are computed in, the weights being float32; None: in what the
            weights are.
        weights: what the model's weights are. Where they are narrow the optimizer keeps them in
            float32 beside.
        scaled: the loss is scaled, so that small gradients do not vanish.
        says: in words.
    """

    autocast: torch.dtype | None
    weights: torch.dtype
    scaled: bool
    says: str

    def around(self, device: torch.device) -> AbstractContextManager[object]:
        """The autocast that a forward pass runs in."""
        return torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None)


ARITHMETIC: dict[Precision, Arithmetic] = {
    "float32": Arithmetic(None, torch.float32, False, "float32"),
    "bf16": Arithmetic(
        torch.bfloat16, torch.float32, False, "bf16 autocast, weights and halting in float32"
    ),
    "bf16_weights": Arithmetic(
        None, torch.bfloat16, False, "bf16 weights, halting in float32 from them"
    ),
    "fp16": Arithmetic(
        torch.float16, torch.float32, True, "fp16 autocast, weights and halting in float32"
    ),
}


def check_precision(precision: Precision, device: torch.device, deepspeed: bool) -> None:
    """Refuses what an engine or a device does not have.

    Args:
        precision: the choice.
        device: where the run computes.
        deepspeed: whether DeepSpeed runs it.

    Raises:
        UsageError: for fp16 on a CPU, and for bf16 weights without DeepSpeed.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UsageError(
            "--precision fp16 on a CPU.",
            "Processors compute it by way of float32 and gain nothing, and DeepSpeed has it on "
            "GPUs alone.",
            "Write --precision float32; bf16 runs on a CPU too, and is fast where ponder doctor "
            "says native.",
        )
    if precision == "bf16_weights" and not deepspeed:
        raise UsageError(
            "--precision bf16_weights without --deepspeed-config.",
            "Steps smaller than bf16 can tell apart would be lost: ZeRO keeps the weights in "
            "float32 beside, and plain PyTorch does not.",
            "Write --precision bf16, whose weights are float32, or add --deepspeed-config "
            "ds_configs/zero1.json.",
        )
