"""What each rank did since the last evaluation: steps and tokens, and how long it computed and waited."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from training import agreement, metrics

KIND = "ranks"
"""Of the lines of metrics.jsonl that hold a `RankReport`."""


@dataclass(frozen=True)
class RankReport:
    """What the ranks did, a list entry each.

    Args:
        steps: executed token-steps.
        tokens: valid ones.
        computing: seconds in which its processor worked on updates; NaN on a GPU, which computes beside the host.
        waiting: the other seconds of its updates: for slower ranks, for what the ranks send each other, and for a
            processor that other programs took. The least of all ranks is about what the sending costs.
        evenness: the mean rank's token-steps ÷ the slowest rank's, summed over updates: the share of the ranks' time
            that is used where time follows token-steps, 1 at best.
    """

    steps: list[float]
    tokens: list[float]
    computing: list[float]
    waiting: list[float]
    evenness: float

    @property
    def mean_steps(self) -> list[float]:
        """Executed steps a valid token."""
        return [steps / max(1.0, tokens) for steps, tokens in zip(self.steps, self.tokens, strict=True)]

    @property
    def waited(self) -> float:
        """The share of all ranks' time that they waited."""
        return sum(self.waiting) / max(1e-9, sum(self.waiting) + sum(self.computing))

    def line(self) -> str:
        """One line, whatever the number of ranks: the least and the most."""
        parts = [f"{len(self.steps)} ranks: steps {_span(self.mean_steps, '.2f')}"]
        if not math.isnan(self.waited):
            parts.append(f"computing {_span(self.computing, '.1f')} s")
            parts.append(f"waiting {_span(self.waiting, '.1f')} s ({self.waited:.0%})")
        return "  ".join((*parts, f"token-steps even to {self.evenness:.1%}"))

    def values(self) -> dict[str, Any]:
        """As a line of metrics.jsonl holds it."""
        return asdict(self)

    @classmethod
    def over_run(cls, folder: Path) -> Self | None:
        """The sum of what a run's lines say; None where it had one rank. After a resume with another number of ranks,
        of those since."""
        lines = [{name: line[name] for name in cls.__dataclass_fields__} for line in metrics.read(folder, KIND)]
        same = [line for line in lines if len(line["steps"]) == len(lines[-1]["steps"])]
        if not same:
            return None
        sums = {
            name: [sum(math.nan if each is None else each for each in column) for column in zip(*rows, strict=True)]
            for name in ("steps", "tokens", "computing", "waiting")
            for rows in [[line[name] for line in same]]
        }
        work = [sum(line["steps"]) for line in same]
        slow = [done / line["evenness"] if line["evenness"] else 0.0 for done, line in zip(work, same, strict=True)]
        return cls(**sums, evenness=sum(work) / max(1.0, sum(slow)))


class Ranks:
    """Counts on this rank, between two reports.

    Args:
        device: what the model runs on.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._steps = self._tokens = self._computing = self._waiting = 0.0
        self._done = self._slowest = 0.0

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around an update.

        The seconds are told apart by the processor: a thread that waits in a collective sleeps, and one that computes
        works, since PyTorch computes on the CPU in the thread that asks. So nothing is added to what the ranks send.
        """
        wall, worked = time.perf_counter(), time.thread_time()
        yield
        wall, worked = time.perf_counter() - wall, time.thread_time() - worked
        knows = self.device.type == "cpu"
        self._computing += worked if knows else math.nan
        self._waiting += max(0.0, wall - worked) if knows else math.nan

    def count(self, tokens: int, steps: int) -> None:
        """Adds a micro-batch."""
        self._tokens, self._steps = self._tokens + tokens, self._steps + steps

    def own(self, steps: Tensor) -> Tensor:
        """[R] an update's token-steps at this rank's place, to be summed over ranks."""
        at = torch.zeros(agreement.world_size(), dtype=torch.float64, device=steps.device)
        at[agreement.rank()] = steps
        return at

    def met(self, steps: Tensor) -> None:
        """Adds an update.

        Args:
            steps: [R] token-steps of each rank.
        """
        self._done += float(steps.sum())
        self._slowest += float(steps.max()) * len(steps)

    def report(self) -> RankReport:
        """What was counted, on all ranks; called by all."""
        own = (self._steps, self._tokens, self._computing, self._waiting)
        # One column a figure: a NaN stays in its own.
        columns = [agreement.everyone(value, self.device) for value in own]
        return RankReport(*columns, evenness=self._done / max(1.0, self._slowest))


def _span(values: list[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} … {high}"
