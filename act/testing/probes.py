"""What the contract of `act.testing` probes a rule with: cases, fixed noise, NaN, and checks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from act.blocks.block import Block
from act.caches.cache import KeyValueCache, StepwiseCache
from act.context import NO_CONTEXT, LoopContext
from act.loop.recurrence import Recurrence
from act.slots import Slots
from halting.costs.cost import StepOutcomes
from halting.mass import halting_dtype, settle
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView, keep_rows
from halting.trace import LoopTrace
from halting.wrappers.wrapper import RuleWrapper

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 3e-2}
"""The largest difference between equals, relative to the largest number of the two (or to 1), by
dtype."""

BATCH = 3
LENGTH = 4
PADDINGS = (
    None,
    torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool),
    torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], dtype=torch.bool),
)
"""No padding; padding on the right; holes, padding on the left and a sequence without a token."""


def assert_close(actual: Tensor, expected: Tensor, what: str) -> None:
    """Same shape and, within the tolerance of the narrower dtype, same numbers; NaN equals
    nothing."""
    assert actual.shape == expected.shape, (
        f"{what}: shape {tuple(actual.shape)} against {tuple(expected.shape)}"
    )
    if not actual.numel():
        return
    tolerance = max(TOLERANCE.get(actual.dtype, 0.0), TOLERANCE.get(expected.dtype, 0.0))
    actual = actual.detach().double()
    expected = expected.detach().double()
    difference = float((actual - expected).abs().max())
    scale = max(1.0, float(expected.abs().max()))
    assert difference <= tolerance * scale, (
        f"{what}: differs by {difference:.3g}, allowed {tolerance * scale:.3g}"
    )


@dataclass
class FixedNoise:
    """Draws that are a hash of the sequence, the position and the step, so they don't depend on who
    else is active.

    Args:
        rows: which sequences the rows of the batch are, for runs of a part of it.
    """

    rows: tuple[int, ...] = tuple(range(BATCH))

    def __call__(self, tokens: Slots) -> Tensor:
        row = torch.tensor(self.rows)[tokens.row]
        number = (
            (row + 1) * 73_856_093 ^ (tokens.position + 1) * 19_349_663 ^ tokens.step * 83_492_791
        )
        for _ in range(2):
            number = ((number >> 15) ^ number) * 0x2C1B3C6D % 2**31
        return (number / 2**31).float()


class PoisonedBlock(Block):
    """A block whose idle slots hold NaN, before and after: law 4 says that nobody notices."""

    def enter(self, x: Tensor, inputs: Tensor, slots: Slots) -> Tensor:
        return _poison(super().enter(_poison(x, slots), _poison(inputs, slots), slots), slots)

    def forward(
        self,
        entering: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Tensor, KeyValueCache]:
        made, cache = super().forward(_poison(entering, slots), slots, cache, context)
        return _poison(made, slots), cache


def _poison(values: Tensor, slots: Slots) -> Tensor:
    return (
        values
        if slots.computes is None
        else torch.where(slots.computes.unsqueeze(-1), values, torch.nan)
    )


class Spy(RuleWrapper):
    """Keeps every decision of the rule inside."""

    def __init__(self, rule: HaltingRule):
        super().__init__(rule)
        self.decisions: list[StepDecision] = []

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        self.decisions.append(decision)
        return decision, memory


class CutOff(RuleWrapper):
    """Everyone leaves by step `steps`, and the rule inside does not know."""

    def __init__(self, rule: HaltingRule, steps: int):
        super().__init__(rule)
        self.steps = steps

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        decision, memory = self.rule.decide(view, memory)
        return replace(decision, halt=decision.halt | (view.step >= self.steps)), memory


@dataclass(frozen=True)
class Case:
    """One setting that a law is tried in."""

    seed: int
    causal: bool
    training: bool
    valid: Tensor | None = field(repr=False)

    def tokens(self) -> Tensor:
        """[B L] bool, True on real tokens."""
        return torch.ones(BATCH, LENGTH, dtype=torch.bool) if self.valid is None else self.valid

    def input(self, dim: int) -> Tensor:
        """[B L D] float64 that wants a gradient; NaN nowhere."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(
            BATCH, LENGTH, dim, dtype=torch.float64, generator=generator
        ).requires_grad_()


@dataclass(frozen=True)
class ProbedRun:
    """A run of the recurrence, each tensor that it returned, and the gradients of a weighing of
    them all."""

    output: Tensor
    trace: LoopTrace
    tensors: dict[str, Tensor]
    gradients: dict[str, Tensor]


def differentiable(output: Tensor, trace: LoopTrace) -> dict[str, Tensor]:
    """Every floating-point tensor that left the loop."""
    packed = {
        name: record.values
        for name, record in (("states", trace.states), ("lens", trace.lens))
        if record is not None
    }
    tensors = {"output": output, "mass": trace.mass, "score": trace.score, **trace.aux, **packed}
    if trace.block_loss is not None:
        tensors["block_loss"] = trace.block_loss
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def gradients_of(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a sum that weighs every number of the tensors differently."""
    loss = sum(
        ((torch.arange(t.numel()).to(t) + 1).cos().view(t.shape) * t).sum()
        for t in tensors.values()
    )
    assert isinstance(loss, Tensor)
    found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(wanted.items(), found, strict=True)
    }


@torch.no_grad()
def decode(loop: Recurrence, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs [B L D] and executed steps [B L] of sequences [B L D] that are read one token at a
    time."""
    batch, length, _ = x.shape
    visible = torch.zeros(batch, length, dtype=torch.bool)
    cache = StepwiseCache(visible, batch, length, loop.max_steps)
    outputs = []
    steps = []
    for position in range(length):
        visible[:, position] = True
        output, trace = loop(
            x[:, position : position + 1], cache=cache, positions=torch.full((batch, 1), position)
        )
        outputs.append(output)
        steps.append(trace.steps)
    return torch.cat(outputs, 1), torch.cat(steps, 1)


def view_alone(state: Tensor, logits: Tensor, step: int, max_steps: int) -> StepView:
    """A step of tokens in sequences of LENGTH, without a loop around."""
    number = torch.arange(len(state))
    slots = Slots(
        number,
        number // LENGTH,
        number % LENGTH,
        torch.full_like(number, step),
        None,
        BATCH,
        LENGTH,
    )
    remaining = torch.ones(len(state), dtype=halting_dtype(state.dtype))
    return StepView(
        slots.step,
        max_steps,
        state,
        state,
        remaining,
        slots.row,
        slots.position,
        lambda aux=None: logits,
        lambda: FixedNoise()(slots),
    )


def decide_alone(rule: HaltingRule, states: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mass [N A] and steps [A] of tokens that pass through given states [N+1 A D], the first before
    step 1."""
    limit = len(states) - 1
    view = view_alone(states[0], logits[0], 1, limit)
    memory, _ = rule.begin(view)
    tokens = torch.arange(states.shape[1])
    remaining = view.remaining
    mass = remaining.new_zeros(limit, len(tokens))
    steps = torch.zeros_like(tokens)
    for step in range(1, limit + 1):
        whole = view_alone(states[step], logits[step], step, limit)
        kept = {
            name: getattr(whole, name)[tokens]
            for name in ("step", "entering", "state", "row", "position")
        }
        view = replace(
            whole,
            **kept,
            remaining=remaining,
            logits=lambda aux=None, whole=whole, tokens=tokens: whole.logits()[tokens],
            uniform=lambda whole=whole, tokens=tokens: whole.uniform()[tokens],
        )
        decision, memory = rule.decide(view, memory)
        spent, left, leaves = settle(decision, remaining, step >= limit)
        mass[step - 1, tokens] = spent
        steps[tokens] = step
        tokens = tokens[~leaves]
        remaining = left[~leaves]
        memory = keep_rows(memory, ~leaves)
    return mass, steps


def random_outcomes(trace: LoopTrace) -> StepOutcomes:
    """Outcomes that differ from token to token and step to step."""
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(trace.mass.shape, generator=generator, dtype=trace.mass.dtype)
    asked = trace.valid & (chance[..., 0] > 0.3)
    return StepOutcomes(
        loss=torch.where(trace.ran, chance, 0.0),
        prediction=torch.where(trace.ran, (chance * 11).long(), 0),
        correct=trace.ran & asked.unsqueeze(-1) & (chance > 0.5),
        has_target=asked,
    )


def memory_tensors(memory: Memory) -> Iterator[Tensor]:
    if isinstance(memory, Tensor):
        yield memory
    elif memory is not None:
        for value in memory.values() if isinstance(memory, dict) else memory:
            yield from memory_tensors(value)
