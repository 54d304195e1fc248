"""One step of the loop as a halting rule sees it, what it decides, and what it remembers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

Memory: TypeAlias = Tensor | dict[str, Any] | tuple[Any, ...] | None
"""What a rule carries from step to step: tensors with one row a token, alone or in (nested) dicts
and tuples."""


def alone(values: Tensor) -> Tensor:
    """The sum over all ranks, where there is one."""
    return values


@dataclass(frozen=True)
class StepView:
    """One loop step, seen by the A tokens that were computed in it.

    Args:
        step: [A] int64, which step this is for the token, counted from 1.
        max_steps: N, the step limit; the loop itself ends every token there.
        entering: [A D] what the block read (input injection and step signal included).
        state: [A D] the state after the step.
        remaining: [A] float32 or wider, the exit mass that the token still holds.
        row: [A] int64, the sequence that the token belongs to.
        position: [A] int64, its position in that sequence.
        logits: gives [A V], what the model would say had it stopped at this step; computed only
            when called. May be given the aux of a rule that has decided already, for readouts that
            go by it.
        uniform: gives [A] fresh uniform draws in [0, 1), for rules that sample.
    """

    step: Int[Tensor, " A"]
    max_steps: int
    entering: Float[Tensor, "A D"]
    state: Float[Tensor, "A D"]
    remaining: Float[Tensor, " A"]
    row: Int[Tensor, " A"]
    position: Int[Tensor, " A"]
    logits: Callable[..., Tensor]
    uniform: Callable[[], Tensor]


@dataclass(frozen=True)
class StepDecision:
    """What a rule wants for each of the A tokens. The loop settles the mass, so no rule can break
    its sum.

    Args:
        mass: [A] float32 or wider, the exit mass to spend now (the loop spends all that is left of
            who leaves).
        halt: [A] bool, who leaves after this step.
        score: [A], the raw number behind the decision (a hazard, a distance, a logit), for viewers.
        gain: [A] or None, multiplies the token's next update (a router's gradient path).
        aux: named tensors [A ...] that the rule's own cost or readout needs. With "would_leave" [A]
            bool, a rule that lets nobody go in training says whom it would let go in evaluation;
            wrappers restrict it as they do `halt`.
    """

    mass: Float[Tensor, " A"]
    halt: Bool[Tensor, " A"]
    score: Float[Tensor, " A"]
    gain: Float[Tensor, " A"] | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)


def keep_rows(memory: Any, rows: Tensor | slice) -> Any:
    """The rows of some tokens only, of a tensor or of all tensors in a `Memory`; the shape of the
    record is kept."""
    if memory is None:
        return None
    if isinstance(memory, Tensor):
        return memory[rows]
    if isinstance(memory, dict):
        return {name: keep_rows(value, rows) for name, value in memory.items()}
    return tuple(keep_rows(value, rows) for value in memory)
