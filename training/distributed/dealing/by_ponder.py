"""Cost by what the model has lately done."""

import torch
from torch import Tensor

from training.distributed.dealing.predictor import Predictor
from training.tasks.task import Batch, Task

_MEMORY = 0.9  # what an update's counts weigh in the next one
_MOST_KINDS = 4096


class ByPonder(Predictor):
    """A token costs what tokens of its kind took in the last updates, on all ranks: the model's own
    last ponder map.

        cost = (Σ steps + mean) / (Σ tokens + 1), over the tokens of that kind; an update k ago
        weighs 0.9^k

    The kind is the difficulty of a token where the task knows one, else the token itself (its
    number modulo 4096), else, where positions read vectors, its position. A kind that has hardly
    been seen costs what the mean token does; before the first update all cost the same, so that
    length alone decides.

    Costs two numbers a kind in the update's last sum over the ranks, and a table look-up a token.

    Args:
        task: whose examples these are.
    """

    def __init__(self, task: Task):
        self._by_difficulty = task.difficulty_name is not None
        self._by_token = task.vector_size is None
        if self._by_difficulty:
            self._kinds = 256
        else:
            self._kinds = min(_MOST_KINDS, task.vocab_size if self._by_token else task.max_length)
        self._tokens = torch.zeros(self._kinds, dtype=torch.float64)
        self._steps = torch.zeros(self._kinds, dtype=torch.float64)

    def costs(self, batch: Batch) -> Tensor:
        seen = float(self._tokens.sum())
        mean = float(self._steps.sum()) / seen if seen else 1.0
        table = (self._steps + mean) / (self._tokens + 1)
        return (table[self._kind(batch)] * batch.valid).sum(1)

    def count(self, batch: Batch, steps: Tensor) -> Tensor:
        kinds = self._kind(batch)[batch.valid]
        taken = torch.bincount(kinds, weights=steps[batch.valid].double(), minlength=self._kinds)
        return torch.cat((torch.bincount(kinds, minlength=self._kinds).double(), taken))

    def learn(self, sums: Tensor) -> None:
        tokens, steps = sums.cpu().chunk(2)
        self._tokens = _MEMORY * self._tokens + tokens
        self._steps = _MEMORY * self._steps + steps

    def state_dict(self) -> dict:
        """{kind: [tokens, steps]} of the kinds that have been seen."""
        seen = self._tokens.nonzero().flatten().tolist()
        return {str(kind): [float(self._tokens[kind]), float(self._steps[kind])] for kind in seen}

    def load_state_dict(self, state: dict) -> None:
        for kind, (tokens, steps) in state.items():
            self._tokens[int(kind)], self._steps[int(kind)] = tokens, steps

    def _kind(self, batch: Batch) -> Tensor:
        """[B L] int64."""
        if self._by_difficulty:
            return batch.difficulty.nan_to_num(0.0).round().long().clamp(0, self._kinds - 1)
        if self._by_token:
            return batch.tokens % self._kinds
        return (
            torch.arange(batch.valid.shape[1], device=batch.valid.device).expand_as(batch.valid)
            % self._kinds
        )
