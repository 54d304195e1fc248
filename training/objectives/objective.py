"""The seam of an objective: an output and its batch in, sums out, which whoever holds the global
counts divides."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from act.models.asked_losses import AskedLosses, is_large
from act.models.looped_model import LoopedModel, ModelOutput
from halting.costs.cost import PonderCost
from training.objectives.outcomes import step_outcomes
from training.tasks.task import Batch, Task


@dataclass(frozen=True)
class Terms:
    """Sums over this rank's rows.

    Args:
        task: Σ weight · loss over the targets, with gradient; to be divided by
            `Batch.target_weight` of the global batch.
        cost: Σ ponder cost over valid tokens, in the cost's unit, with gradient.
        block: Σ what the block adds to the loss over valid tokens, with gradient; None where it has
            nothing to add. Divided by the valid tokens of the global batch.
    """

    task: Tensor
    cost: Tensor
    block: Tensor | None = None


class TrainedRun(Protocol):
    """A run read back (`training.load_run`), as far as an objective needs it."""

    @property
    def task(self) -> Task: ...

    @property
    def model(self) -> LoopedModel: ...

    def forward(self, batch: Batch) -> ModelOutput:
        """The model's output for a batch, in evaluation mode and without gradient."""
        ...


class Objective(ABC):
    """What is minimised beside the ponder cost: a loss for each answer.

    A subclass says `losses`; its `__init__` arguments are the `--objective.*` flags and
    `RunConfig.objective.options`, checked against the signature. The rest is done here: where the
    readout keeps every step, each step is an answer of its own and its loss is weighted as the
    readout says, by the mass spent on it (Σ_n p_n·L_n) or evenly (losses are mixed, not logits);
    `Batch.loss_weights` weigh each target's loss; and the ponder cost sees the losses unweighted.
    """

    def prepare(self, task: Task, load_run: Callable[[str], TrainedRun]) -> None:
        """Loads what training needs beside its options; called once before a training, and not by
        what only reads a run back.

        Args:
            task: of the run.
            load_run: reads another run's folder.

        Raises:
            UsageError: where that is not there, or does not fit.
        """

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor, batch: Batch, index: Tensor) -> Tensor:
        """The loss [M] of M answers, float32 or wider, with gradient; 0 where there is no target.
        Called once for each micro-batch.

        Args:
            logits: [M V], of one answer a token, or of one for each step of a token.
            targets: [M] int64, `IGNORE` where there is no target.
            batch: the B examples of L positions that the answers are of.
            index: [M] int64, which of the B·L positions each is of.
        """

    def asked(self, batch: Batch) -> AskedLosses | None:
        """What a model may be asked for instead of logits; None where `losses` wants to see them.
        `asking` says when it is."""
        return None

    def __call__(self, output: ModelOutput, batch: Batch, cost: PonderCost | None) -> Terms:
        """The two sums of one micro-batch.

        Args:
            output: what the model said.
            batch: on the same device.
            cost: what thinking costs; None: nothing.
        """
        packed = output.step_logits
        weights = batch.loss_weights
        outcomes = None
        if output.answers is not None:
            task = output.answers.total
            if output.answers.steps is not None:
                outcomes = step_outcomes(output, batch.targets)
        elif packed is None:
            flat = batch.targets.flatten()
            everywhere = torch.arange(flat.numel(), device=flat.device)
            found = self.losses(output.logits.flatten(0, 1), flat, batch, everywhere)
            losses = found.view(batch.targets.shape)  # [B L]
            task = (losses if weights is None else losses * weights).sum()
        else:
            wanted = batch.targets.flatten()[packed.index]
            found = self.losses(packed.values, wanted, batch, packed.index)
            outcomes = step_outcomes(output, batch.targets, found)
            by_step = output.trace.mass if output.step_weights is None else output.step_weights
            losses = by_step * outcomes.loss  # [B L N]
            task = (losses if weights is None else losses * weights.unsqueeze(-1)).sum()
        block = None if output.trace.block_loss is None else output.trace.block_loss.sum()
        if cost is None:
            return Terms(task, task.new_zeros(()), block)
        costs = cost(output.trace, outcomes)
        return Terms(task, torch.where(batch.valid, costs, 0.0).sum(), block)


def asking(
    objective: Objective, model: LoopedModel, task: Task, examples: int
) -> Callable[[Batch], AskedLosses | None]:
    """What a model is asked for instead of logits, by batch: its losses where the logits of so many
    examples would be large, on all ranks alike.

    Args:
        objective: what is minimised.
        model: that is trained.
        task: whose answers.
        examples: of a micro-batch.
    """
    return objective.asked if _is_large(model, task, examples) else lambda batch: None


def asks_for_losses(
    objective: Objective, model: LoopedModel, task: Task, batch: Batch, examples: int
) -> bool:
    """Whether `asking` has the model asked for losses in a batch such as this one; nothing runs.

    Args:
        objective: what is minimised.
        model: that would be trained; its parameters may be on the meta device.
        task: whose answers.
        batch: any.
        examples: of a micro-batch.
    """
    return _is_large(model, task, examples) and objective.asked(batch) is not None


def _is_large(model: LoopedModel, task: Task, examples: int) -> bool:
    steps = model.recurrence.max_steps if model.recurrence.readout.keeps_states else 1
    return is_large(examples * task.max_length * steps, task.vocab_size)
