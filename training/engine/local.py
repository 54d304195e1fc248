"""One process, plain PyTorch: the reference engine."""

import math

import torch
from torch import Tensor

from act.models.asked_losses import AskedLosses
from act.models.looped_model import LoopedModel, ModelOutput
from training.config.precision import ARITHMETIC, Precision
from training.config.sections import OptimizerConfig
from training.engine.engine import (
    Engine,
    MakeOptimizer,
    StepResult,
    poison_if_nonfinite,
    unscale,
)
from training.engine.loss_scale import LossScale
from training.engine.model_inputs import extra_inputs
from training.engine.optimizer import build_optimizer, set_learning_rate
from training.engine.state_access import WholeStateAccess
from training.tasks.task import Batch


class LocalEngine(Engine):
    """An optimizer with gradient clipping on one device.

    Args:
        model: the model, on any device.
        optimizer: its settings.
        device: where to run.
        precision: what forward computes in; narrow weights are not for this engine
            (`check_precision`).
        make_optimizer: another optimizer than the settings' (engines are compared under SGD too,
            which does not amplify rounding).
    """

    def __init__(
        self,
        model: LoopedModel,
        optimizer: OptimizerConfig,
        device: torch.device,
        precision: Precision = "float32",
        make_optimizer: MakeOptimizer = build_optimizer,
    ):
        self.model = model.to(device)
        self.device = device
        self.clip = optimizer.clip
        self.arithmetic = ARITHMETIC[precision]
        self.loss_scale = LossScale() if self.arithmetic.scaled else None
        self.optimizer = make_optimizer(model, optimizer)

    def forward(
        self,
        batch: Batch,
        record_lens: bool = False,
        max_steps: int | None = None,
        asked: AskedLosses | None = None,
    ) -> ModelOutput:
        with self.arithmetic.around(self.device):
            return self.model(
                batch.tokens,
                batch.valid,
                **extra_inputs(self.model, batch, asked),
                record_lens=record_lens,
                max_steps=max_steps,
            )

    def backward(self, loss: Tensor) -> None:
        (poison_if_nonfinite(loss) * self.scale).backward()

    def step(self, learning_rate: float) -> StepResult:
        set_learning_rate(self.optimizer, learning_rate)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        unscale(parameters, self.scale)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.clip))
        skipped = not math.isfinite(norm)
        if not skipped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.loss_scale is not None:
            self.loss_scale.update(skipped)
        return StepResult(norm, skipped)

    @property
    def held(self) -> WholeStateAccess:
        return WholeStateAccess(self.optimizer)
