"""Cost by difficulty."""

from torch import Tensor

from halting.errors import UsageError
from training.distributed.dealing.predictor import Predictor
from training.tasks.task import Batch, Task


class ByDifficulty(Predictor):
    """A token costs 1 + its difficulty, in the task's own unit: who has farther to go thinks
    longer.

    Args:
        task: whose examples these are.

    Raises:
        UsageError: for a task that knows no difficulty.
    """

    def __init__(self, task: Task):
        if task.difficulty_name is None:
            raise UsageError(
                f"--balance-by difficulty comes with {type(task).__name__}.",
                "The task does not know how difficult its tokens are.",
                "Write --balance-by ponder, which learns what they take, or --balance-by length.",
            )

    def costs(self, batch: Batch) -> Tensor:
        return ((1 + batch.difficulty.double().nan_to_num(0.0).clamp(min=0)) * batch.valid).sum(1)
