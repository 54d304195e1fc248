"""The seam of an engine: forward, backward, optimizer step and state of one model, on one process
or many."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from act.models.asked_losses import AskedLosses
from act.models.looped_model import LoopedModel, ModelOutput
from training.config.sections import OptimizerConfig
from training.distributed import collectives
from training.engine import checkpoint_format
from training.engine.loss_scale import LossScale
from training.engine.state_access import StateAccess
from training.tasks.task import Batch

MakeOptimizer = Callable[[nn.Module, OptimizerConfig], torch.optim.Optimizer]


@dataclass(frozen=True)
class StepResult:
    """What an optimizer step did.

    Args:
        gradient_norm: L2 norm of the global gradient before clipping; NaN where the engine does not
            tell.
        skipped: loss or gradient was not finite, and no parameter was changed, on any rank.
    """

    gradient_norm: float
    skipped: bool = False


class Engine(ABC):
    """Runs one model. `LocalEngine` is the reference; others must give the same losses.

    Attributes:
        device: where batches go.
        model: the looped model itself (its parameters may be sharded: see `whole`).
        whole: every parameter is wholly present on this rank outside of forward and backward.
        stage: the ZeRO stage; 0 when nothing is sharded.
        loss_scale: what the loss is multiplied by on its way back; None where it is not.
    """

    device: torch.device
    model: LoopedModel
    whole: bool = True
    stage: int = 0
    loss_scale: LossScale | None = None

    @property
    def scale(self) -> float:
        """What the gradients that are being gathered are multiplied by."""
        return 1.0 if self.loss_scale is None else self.loss_scale.scale

    @abstractmethod
    def forward(
        self,
        batch: Batch,
        record_lens: bool = False,
        max_steps: int | None = None,
        asked: AskedLosses | None = None,
    ) -> ModelOutput:
        """The model's output on this rank's rows; losses where it is `asked` for them and can give
        them."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of this rank's and this micro-batch's *share* of the global loss: the
        shares of all ranks and all micro-batches of an update sum to the loss. Where the loss is
        not finite, no gradient of it is, and so the next step changes nothing on any rank."""

    @abstractmethod
    def step(self, learning_rate: float) -> StepResult:
        """One optimizer step with the gradient gathered so far, then a clean slate."""

    @property
    @abstractmethod
    def held(self) -> StateAccess:
        """How parameters and moments are held."""

    def save(self, folder: Path) -> None:
        """Writes everything that `load` needs into an existing folder, alike from any engine, ZeRO
        stage and number of ranks; called by all ranks between updates."""
        checkpoint_format.save(folder, self.model, self.held, self.device)
        if self.loss_scale is not None and collectives.rank() == 0:
            self.loss_scale.save(folder)

    def save_weights(self, folder: Path) -> None:
        """Writes `model.safetensors` alone, whole even where parameters are sharded; called by all
        ranks."""
        checkpoint_format.save_weights(folder, self.model, self.held, self.device)

    def load(self, folder: Path) -> None:
        """Restores what `save` of any engine wrote; called by all ranks."""
        if self.loss_scale is not None:
            self.loss_scale.load(folder)
        checkpoint_format.load(folder, self.model, self.held, self.device)

    def weights(self) -> dict[str, Tensor]:
        """The model's whole state dict on the CPU; called by all ranks, non-empty on rank 0
        only."""
        first = collectives.rank() == 0
        return {
            name: whole.cpu().clone()
            for name, whole in checkpoint_format.weights(self.model, self.held)
            if first
        }

    def train(self) -> None:
        """Training mode."""
        self.model.train()

    def eval(self) -> None:
        """Evaluation mode."""
        self.model.eval()

    def close(self) -> None:
        """Lets go of what the engine holds (process groups, files)."""


def poison_if_nonfinite(loss: Tensor) -> Tensor:
    """The same loss; where it is not finite, every gradient of it is no number. (The gradient of an
    infinite cross entropy may be finite, and nobody else would notice.)"""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan).to(loss.dtype)


def unscale(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Divides the gradients by the loss scale."""
    if scale != 1.0:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(1.0 / scale)
