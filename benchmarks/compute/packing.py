"""Packed against bare dense: time and memory over the share of tokens that are active."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from act.loop.recurrence import Recurrence
from benchmarks.compute.bare import dense_loop
from benchmarks.compute.saved_bytes import saved_bytes
from benchmarks.compute.shape import STEPS, Shape
from benchmarks.compute.timing import in_turns, median, ratio
from halting.rule import HaltingRule
from halting.rules.fixed_steps import FixedSteps
from halting.rules.graves_act import GravesACT
from halting.step import Memory, StepDecision, StepView
from training.reports.leave_at import LeaveAt


def step_of(parts: nn.Module, forward: Callable[[], Tensor], training: bool) -> Callable[[], None]:
    """A forward pass, in training with its backward pass."""

    def run() -> None:
        with torch.set_grad_enabled(training):
            output = forward()
        if training:
            output.square().sum().backward()
            parts.zero_grad()

    return run


def time_over_share(
    shape: Shape, mean: float, training: bool, rule: str, repeats: int
) -> list[float]:
    """Packed ÷ bare dense ÷ active share, of each turn; halting times given, or by the whole of
    GravesACT."""
    block = shape.block()
    x = shape.input()
    steps = shape.steps(mean)
    chosen: HaltingRule = (
        LeaveAt(steps) if rule == "given" else LedAlong(shape.dim, steps).to(shape.device)
    )
    loop = Recurrence(block, chosen, max_steps=STEPS)
    taken = loop(x)[1].steps
    assert torch.equal(taken, steps), "the tokens leave when they are told to"
    share = taken.float().mean().item() / STEPS
    packed = step_of(loop, lambda: loop(x)[0], training)
    dense = step_of(block, lambda: dense_loop(block, x, STEPS), training)
    return [each / share for each in ratio(packed, dense, repeats)]


class LedAlong(GravesACT):
    """All of ACT's arithmetic, gradients included, on hazards that end at given steps.

    Args:
        dim: D.
        steps: [B L] of each token.
    """

    def __init__(self, dim: int, steps: Tensor):
        super().__init__(dim, bias_init=-9.0)
        self.given = LeaveAt(steps)

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return self.given.begin(view)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, _ = super().decide(view, None)
        given, memory = self.given.decide(view, memory)
        return replace(decision, halt=decision.halt | given.halt), memory


def time_when_nothing_halts(shape: Shape, repeats: int) -> list[float]:
    """Packed ÷ the loop's own dense path, training, no token leaving before the limit."""
    block = shape.block()
    x = shape.input()
    packed, dense = (
        Recurrence(block, FixedSteps(), max_steps=STEPS, path=path) for path in ("packed", "dense")
    )
    return ratio(
        step_of(packed, lambda: packed(x)[0], True),
        step_of(dense, lambda: dense(x)[0], True),
        repeats,
    )


def bytes_over_share(shape: Shape, mean: float) -> float:
    """Saved for backward, packed ÷ bare dense ÷ active share."""
    block = shape.block()
    x = shape.input()
    steps = shape.steps(mean)
    loop = Recurrence(block, LeaveAt(steps), max_steps=STEPS)
    packed = saved_bytes(lambda: loop(x)[0], loop.parameters())
    dense = saved_bytes(lambda: dense_loop(block, x, STEPS), block.parameters())
    return packed / dense / (steps.float().mean().item() / STEPS)


def rows_over_steps(shape: Shape, mean: float) -> float:
    """Rows that pass the linear layers ÷ executed token-steps: the layer that is furthest from
    1."""
    block = shape.block()
    x = shape.input()
    steps = shape.steps(mean)
    rows: dict[nn.Module, int] = {}

    def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows[module] = rows.get(module, 0) + given[0].shape[0]

    for module in block.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(count)
    Recurrence(block, LeaveAt(steps), max_steps=STEPS)(x)
    ratios = [each / int(steps.sum()) for each in rows.values()]
    return max(ratios, key=lambda each: abs(each - 1))


def straight_line(shape: Shape, repeats: int) -> float:
    """R² of a straight line through time against executed token-steps, training, batches of every
    mean depth."""
    block = shape.block()
    x = shape.input()
    means = [1.0 + 0.5 * number for number in range(1, 2 * (STEPS - 1))]
    runs = []
    executed = []
    for mean in means:
        steps = shape.steps(mean)
        loop = Recurrence(block, LeaveAt(steps), max_steps=STEPS)
        runs.append(step_of(loop, lambda loop=loop: loop(x)[0], True))
        executed.append(int(steps.sum()))
    times = [median(each) for each in in_turns(runs, repeats)]
    return float(np.corrcoef(executed, times)[0, 1] ** 2)
