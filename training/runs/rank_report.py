"""What each rank did since the last evaluation: steps and tokens, and how long it computed and
waited."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from training.distributed import collectives
from training.runs import metrics

KIND = "ranks"
"""Of the lines of metrics.jsonl that hold a `RankReport`."""


@dataclass(frozen=True)
class RankReport:
    """What the ranks did, a list entry each.

    Args:
        steps: executed token-steps.
        tokens: valid ones.
        computing: seconds in which its processor worked on updates; NaN on a GPU, which computes
            beside the host.
        waiting: the other seconds of its updates: for slower ranks, for what the ranks send each
            other, and for a processor that other programs took. The least of all ranks is about
            what the sending costs.
        evenness: the mean rank's token-steps ÷ those of the rank that has most, summed over
            updates: the share of the ranks' time that is used where time follows token-steps, 1 at
                best.
        evenness_of_seconds: the same of the processor's seconds, up to where the ranks add up their
            losses.
    """

    steps: list[float]
    tokens: list[float]
    computing: list[float]
    waiting: list[float]
    evenness: float
    evenness_of_seconds: float

    @property
    def mean_steps(self) -> list[float]:
        """Executed steps a valid token."""
        return [
            steps / max(1.0, tokens) for steps, tokens in zip(self.steps, self.tokens, strict=True)
        ]

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
        """The sum of what a run's lines say; None where it had one rank. After a resume with
        another number of ranks, of those since."""
        names = cls.__dataclass_fields__.keys()
        lines = [
            {name: line[name] for name in names}
            for line in metrics.read_metrics(folder, KIND)
            if names <= line.keys()
        ]
        same = [line for line in lines if len(line["steps"]) == len(lines[-1]["steps"])]
        if not same:
            return None
        sums = {
            name: [
                sum(math.nan if each is None else each for each in column)
                for column in zip(*rows, strict=True)
            ]
            for name in ("steps", "tokens", "computing", "waiting")
            for rows in [[line[name] for line in same]]
        }
        return cls(
            **sums,
            evenness=_together([(sum(line["steps"]), line["evenness"]) for line in same]),
            evenness_of_seconds=_together(
                [(sum(line["tokens"]), line["evenness_of_seconds"]) for line in same]
            ),
        )


class Ranks:
    """Counts on this rank, between two reports.

    Args:
        device: what the model runs on.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._steps = self._tokens = self._computing = self._waiting = 0.0
        self._began = 0.0
        self._mean, self._most = (
            torch.zeros(2, dtype=torch.float64, device=device) for _ in range(2)
        )

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around an update.

        The seconds are told apart by the processor: a thread that waits in a collective sleeps, and
        one that computes works, since PyTorch computes on the CPU in the thread that asks. So
        nothing is added to what the ranks send.
        """
        wall = time.perf_counter()
        self._began = time.thread_time()
        yield
        wall = time.perf_counter() - wall
        worked = self._worked()
        self._computing += worked
        self._waiting += max(0.0, wall - worked)

    def count(self, tokens: int, steps: int) -> None:
        """Adds a micro-batch."""
        self._tokens = self._tokens + tokens
        self._steps = self._steps + steps

    def own(self, steps: Tensor) -> Tensor:
        """[2R] at this rank's places: an update's token-steps, and the seconds it has worked; to be
        summed over ranks."""
        places = torch.zeros(2, collectives.world_size(), dtype=torch.float64, device=steps.device)
        places[0, collectives.rank()], places[1, collectives.rank()] = steps, self._worked()
        return places.flatten()

    def met(self, of_ranks: Tensor) -> None:
        """Adds an update: what `own` gave, summed over ranks."""
        both = of_ranks.view(2, -1)
        self._mean += both.mean(1)
        self._most += both.amax(1)

    def report(self) -> RankReport:
        """What was counted, on all ranks; called by all."""
        own = (self._steps, self._tokens, self._computing, self._waiting)
        # One column a figure: a NaN stays in its own.
        steps, tokens, computing, waiting = (
            collectives.all_gather(value, self.device) for value in own
        )
        evenness, of_seconds = torch.where(self._most == 0, 1.0, self._mean / self._most).tolist()
        return RankReport(steps, tokens, computing, waiting, evenness, of_seconds)

    def _worked(self) -> float:
        """Seconds that the processor has worked in this update; NaN where it leaves the work to a
        GPU."""
        return time.thread_time() - self._began if self.device.type == "cpu" else math.nan


def _together(parts: list[tuple[float, float | None]]) -> float:
    """The evenness of several stretches, from the work and the evenness of each."""
    if any(evenness is None for _, evenness in parts):
        return math.nan
    slowest = sum(work / evenness for work, evenness in parts if evenness)
    return sum(work for work, _ in parts) / slowest if slowest else 1.0


def _span(values: list[float], form: str) -> str:
    low = f"{min(values):{form}}"
    high = f"{max(values):{form}}"
    return low if low == high else f"{low} … {high}"
