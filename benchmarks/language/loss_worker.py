"""One process of the loss part: the most that it holds, or the seconds that it takes."""

import json
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from act.models.asked_losses import AnswerHead
from benchmarks.compute.timing import in_turns
from benchmarks.memory.case import forget_peak, resident

WAYS = ("whole", "chunked")


class Given:
    """States whose answers are asked for, as a loop hands them to its head: of one step, or of all,
    end to end, each weighed by its exit mass.

    Args:
        vocabulary: V.
        tokens: of the batch.
        width: D.
        steps: whose losses are trained; 1: the output's alone.
    """

    def __init__(self, vocabulary: int, tokens: int, width: int, steps: int):
        torch.manual_seed(0)
        self.head = AnswerHead(width, vocabulary, bias=False)
        nn.init.normal_(self.head.weight, std=width**-0.5)
        self.states = torch.randn(steps * tokens, width, requires_grad=True)
        self.targets = torch.randint(vocabulary, (tokens,)).repeat(steps)
        self.mass = torch.full((steps * tokens,), 1 / steps, requires_grad=True)

    def losses(self, way: str) -> Tensor:
        """The sum that is trained."""
        if way == "chunked":
            return self.head(self.states, self.targets, self.mass).total
        losses = F.cross_entropy(self.head(self.states), self.targets, reduction="none")
        return (self.mass * losses).sum()

    def action(self, way: str) -> Callable[[], None]:
        """Forward and backward; the gradients are let go of."""

        def run() -> None:
            self.losses(way).backward()
            self.head.weight.grad = self.states.grad = self.mass.grad = None

        return run


def peak(given: Given, way: str) -> int:
    """The most resident memory beyond what was there, gradients among it, bytes."""
    before = resident("VmRSS")
    forget_peak()
    given.losses(way).backward()
    return resident("VmHWM") - before


def main(argv: Sequence[str]) -> None:
    """Arguments: "peak" or "time", vocabulary, tokens, width, steps, way or turns."""
    what, *sizes, last = argv
    torch.set_num_threads(1)
    # What is made at the first use is there from now on.
    for way in WAYS:
        Given(64, 64, 16, 1).action(way)()
    given = Given(*map(int, sizes))
    if what == "peak":
        found: object = {"peak_bytes": peak(given, last)}
    else:
        times = in_turns([given.action(way) for way in WAYS], int(last), least=0.0)
        found = {"seconds": dict(zip(WAYS, times, strict=True))}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
