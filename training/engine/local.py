"""One process, plain PyTorch: the reference engine."""

import math

import torch
from torch import Tensor

from act.model import LoopedTransformer, ModelOutput
from training.config import OptimizerConfig
from training.engine.engine import Engine, MakeOptimizer, StepResult, adamw
from training.engine.held import HeldWhole
from training.tasks.task import Batch


class LocalEngine(Engine):
    """AdamW with gradient clipping on one device.

    Args:
        model: the model, on any device.
        optimizer: its settings.
        device: where to run.
        bf16: run forward under bfloat16 autocast (parameters and halting arithmetic stay float32).
        make_optimizer: another optimizer than AdamW (engines are compared under SGD too, which does not amplify
            rounding).
    """

    def __init__(
        self,
        model: LoopedTransformer,
        optimizer: OptimizerConfig,
        device: torch.device,
        bf16: bool = False,
        make_optimizer: MakeOptimizer = adamw,
    ):
        self.model, self.device, self.bf16, self.clip = model.to(device), device, bf16, optimizer.clip
        self.optimizer = make_optimizer(model, optimizer)

    def forward(self, batch: Batch, record_lens: bool = False, max_steps: int | None = None) -> ModelOutput:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.model(batch.tokens, batch.valid, record_lens=record_lens, max_steps=max_steps)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, learning_rate: float) -> StepResult:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        skipped = not math.isfinite(norm)
        if not skipped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(norm, skipped)

    @property
    def held(self) -> HeldWhole:
        return HeldWhole(self.optimizer)
