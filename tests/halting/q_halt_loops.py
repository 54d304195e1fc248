"""Loops that halt by their values, for tests."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from act import Block, Recurrence
from act.caches.cache import KeyValueCache
from act.context import NO_CONTEXT, LoopContext
from act.slots import Slots
from halting.costs.cost import StepOutcomes
from halting.rules.q_halt import QHalt
from halting.step import StepView
from halting.trace import LoopTrace

VALID = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 1, 1, 0], [1, 0, 1, 1]], dtype=torch.bool)
LIMIT = 5


def view(
    state: Tensor,
    row: list[int],
    step: int = 1,
    limit: int = LIMIT,
    uniform: Callable[[], Tensor] | None = None,
    remaining: float = 1.0,
) -> StepView:
    count = len(row)
    return StepView(
        step=torch.full((count,), step),
        max_steps=limit,
        entering=state,
        state=state,
        remaining=torch.full((count,), remaining),
        row=torch.tensor(row),
        position=torch.arange(count),
        logits=lambda: state,
        uniform=uniform or (lambda: torch.full((count,), 0.5)),
    )


def q_of(halt: list[float], go_on: list[float]) -> tuple[QHalt, Tensor]:
    """A gate that reads two numbers of the state, and states that hold them."""
    rule = QHalt(2, bias_init=0.0)
    with torch.no_grad():
        rule.gate.weight.copy_(torch.eye(2))
    return rule, torch.tensor([halt, go_on]).T.contiguous()


class CountingBlock(Block):
    """Counts the token-steps that it computes."""

    computed: int = 0

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        self.computed += len(entering)
        return super().forward(entering, slots, cache, context)


def loop_of(training: bool, explore: float = 0.0, seed: int = 37) -> tuple[Recurrence, Tensor]:
    """A loop whose sequences halt at different steps, and what it starts from."""
    torch.manual_seed(seed)
    rule = QHalt(6, bias_init=0.0, explore=explore)
    nn.init.normal_(rule.gate.weight, std=0.5)
    with torch.no_grad():
        rule.gate.bias.copy_(torch.tensor([-0.6, 0.0]))
    block = CountingBlock(6, 2, rotary=False, step_signal="sinusoidal")
    return Recurrence(block, rule, max_steps=LIMIT).double().train(training), torch.randn(
        4, 4, 6
    ).double()


def outcomes_of(trace: LoopTrace, asked: Tensor | None = None) -> StepOutcomes:
    """Sequences that are right at some steps and wrong at others."""
    asked = trace.valid if asked is None else asked
    right = torch.arange(trace.num_steps) % 2 == torch.arange(len(asked)).unsqueeze(1) % 2
    correct = (right.unsqueeze(1) & trace.ran & asked.unsqueeze(-1)).clone()
    correct[0, int(asked[0].nonzero()[0]), 2:] = False  # one wrong token is enough
    return StepOutcomes(
        torch.zeros_like(trace.mass), torch.zeros_like(trace.mass).long(), correct, asked
    )


def halting_steps(trace: LoopTrace) -> list[int]:
    """The step on which each sequence spent its mass, all of its tokens alike."""
    found = []
    for row, valid in zip(trace.mass, trace.valid, strict=True):
        at = {int((mass == 1).nonzero()) + 1 for mass in row[valid]}
        assert len(at) == 1, "the tokens of a sequence part"
        found.append(at.pop())
    return found
