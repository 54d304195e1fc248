"""Learning from what a trained run answers."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from halting.errors import UsageError
from training.objectives.objective import Objective, TrainedRun
from training.objectives.outcomes import token_losses
from training.tasks.task import IGNORE, Batch, Task


class Distillation(Objective):
    """The answers of a frozen teacher, mixed with the right ones (Hinton et al. 2015):

        L = (1 − w)·CE + w·T²·KL(softmax(teacher / T) ‖ softmax(student / T)).

    Where the readout keeps every step, each step learns from the teacher's final answer. The
    teacher runs in evaluation mode and halts by its own rule; its pass costs time and no gradient.

    Args:
        teacher: a run folder, or one of its checkpoints, of a task with the same vocabulary.
        weight: w, how much of the loss is the teacher's.
        temperature: T, how much the two distributions are flattened.

    Raises:
        UsageError: for a weight or temperature out of range.
    """

    path_options = ("teacher",)

    def __init__(self, teacher: str, weight: float = 0.5, temperature: float = 1.0):
        if not 0.0 <= weight <= 1.0:
            raise UsageError(
                f"--objective.weight {weight}.",
                "It is the teacher's part in the loss.",
                "Write a number from 0 to 1.",
            )
        if not temperature > 0.0:
            raise UsageError(
                f"--objective.temperature {temperature}.",
                "Logits are divided by it.",
                "Write a number above 0, such as 2.",
            )
        self.teacher = teacher
        self.weight = weight
        self.temperature = temperature
        self._run: TrainedRun | None = None

    def prepare(self, task: Task, load_run: Callable[[str], TrainedRun]) -> None:
        run = load_run(self.teacher)
        if run.task.vocab_size != task.vocab_size:
            raise UsageError(
                f"--objective.teacher {self.teacher} answers with {run.task.vocab_size} tokens, "
                f"and this run's task with {task.vocab_size}.",
                "The two distributions are compared answer by answer.",
                "Name a run of the same task, with the same --data.* options.",
            )
        run.model.requires_grad_(False)
        self._run = run

    def losses(self, logits: Tensor, targets: Tensor, batch: Batch, index: Tensor) -> Tensor:
        assert self._run is not None, "prepare comes before a training"
        self._run.model.to(logits.device)
        taught = _log_probabilities(
            self._run.forward(batch).logits.flatten(0, 1)[index], self.temperature
        )
        said = _log_probabilities(logits, self.temperature)
        apart = F.kl_div(said, taught, reduction="none", log_target=True).sum(-1)
        apart = torch.where(targets != IGNORE, apart, 0.0) * self.temperature**2
        return (1 - self.weight) * token_losses(logits, targets) + self.weight * apart


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """ln softmax(logits / T), in float32 or wider."""
    wide = logits.to(torch.promote_types(torch.float32, logits.dtype))
    return (wide / temperature).log_softmax(-1)
