"""Executable specification of the loop: plain Python, one sequence, one step, one token at a time,
in float64.

Nothing is shared with the fast path but the weights and the seams (the rule, and a readout that
this file does not know); a block brings its own naive form. Slow on purpose, and differentiable, so
that gradients can be compared too. Only tests import it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from act.blocks.naive import NaiveToken
from act.loop.backprop import Truncated
from act.loop.recurrence import Recurrence
from act.slots import Slots
from act.testing.naive_memory import (
    add_readout,
    begin_readout,
    finish_readout,
    join_memories,
    memory_of_row,
)
from halting.step import Memory, StepView


@dataclass(frozen=True)
class NaiveRun:
    """What the loop must give.

    Args:
        output: [B L D] float64, 0 on padding.
        mass: [B L N] float64, the exit mass spent at each step; N as long as the longest-thinking
            token.
        steps: [B L] int64, executed steps; 0 on padding.
    """

    output: Float[Tensor, "B L D"]
    mass: Float[Tensor, "B L N"]
    steps: Int[Tensor, "B L"]


@dataclass(frozen=True)
class GravesToken:
    """One token of Adaptive Computation Time (Graves 2016, section 2).

    Args:
        steps: N(t).
        remainder: R(t), the mass left for the last step.
        mass: p_1 .. p_N.
        output: Σ p_n·s_n.
        cost: N + R.
    """

    steps: int
    remainder: float
    mass: list[float]
    output: list[float]
    cost: float


def graves_act(hazards: list[float], states: list[list[float]], epsilon: float) -> GravesToken:
    """Graves' equations on lists of numbers, of one token that is cut where the lists end.

    Args:
        hazards: λ_1, λ_2, ..., what the halting unit says after each step.
        states: s_1, s_2, ..., the state after each step.
        epsilon: ε.
    """
    steps = len(hazards)
    for n in range(1, len(hazards) + 1):
        if sum(hazards[:n]) >= 1 - epsilon:
            steps = n
            break
    remainder = 1.0 - sum(hazards[: steps - 1])
    mass = [*hazards[: steps - 1], remainder]
    output = [
        sum(p * state[d] for p, state in zip(mass, states, strict=False))
        for d in range(len(states[0]))
    ]
    return GravesToken(steps, remainder, mass, output, steps + remainder)


@dataclass
class _Token(NaiveToken):
    """One token while it loops."""

    remaining: Tensor = field(kw_only=True)
    total: Tensor | None = field(kw_only=True)
    memory: Memory = None
    gain: Tensor | None = None
    mass: list[Tensor] = field(default_factory=list)
    output: Tensor | None = None

    def detach(self) -> None:
        self.state = self.state.detach()
        self.keys = {layer: keys.detach() for layer, keys in self.keys.items()}
        self.values = {layer: values.detach() for layer, values in self.values.items()}


def run(
    recurrence: Recurrence,
    x: Float[Tensor, "B L D"],
    valid: Bool[Tensor, "B L"] | None = None,
    max_steps: int | None = None,
) -> NaiveRun:
    """What `recurrence(x, valid, max_steps=max_steps)` must give, in float64.

    A rule that is causal is asked about one token at a time, any other about all active tokens of
    one sequence. A rule that draws needs `recurrence.draw` to be a function of the token and the
    step alone.

    Args:
        recurrence: of a block that has a naive form (`LoopBlock.naive_step`).
        x: what the loop starts from.
        valid: True on real tokens; None when all are.
        max_steps: another limit for this call.
    """
    batch, length, dim = x.shape
    limit = recurrence.max_steps if max_steps is None else max_steps
    done = [
        _run_sequence(
            recurrence,
            row,
            [p for p in range(length) if valid is None or valid[row, p]],
            x[row].double(),
            limit,
        )
        for row in range(batch)
    ]
    num_steps = max([1, *(len(token.mass) for tokens in done for token in tokens)])
    zero = torch.zeros((), dtype=torch.float64)
    output = [[zero.expand(dim)] * length for _ in range(batch)]
    mass = [[[zero] * num_steps for _ in range(length)] for _ in range(batch)]
    steps = torch.zeros(batch, length, dtype=torch.int64)
    for token in (token for tokens in done for token in tokens):
        assert token.output is not None
        output[token.row][token.position] = token.output
        mass[token.row][token.position][: len(token.mass)] = token.mass
        steps[token.row, token.position] = len(token.mass)
    return NaiveRun(
        output=torch.stack([torch.stack(tokens) for tokens in output]),
        mass=torch.stack([torch.stack([torch.stack(each) for each in tokens]) for tokens in mass]),
        steps=steps,
    )


def _run_sequence(
    recurrence: Recurrence, row: int, positions: list[int], x: Tensor, limit: int
) -> list[_Token]:
    block = recurrence.block
    rule = recurrence.rule
    backprop = recurrence.backprop
    one = torch.ones((), dtype=torch.float64)
    tokens = [
        _Token(row, p, x[p], x[p], x[p], remaining=one, total=begin_readout(recurrence, x[p]))
        for p in positions
    ]

    def view(group: list[_Token], step: int) -> StepView:
        return _view(recurrence, group, step, limit, len(x))

    def groups(active: list[_Token]) -> list[list[_Token]]:
        return [[token] for token in active] if rule.causal else [active] * bool(active)

    for group in groups(tokens):
        memory, gain = rule.begin(view(group, 1))
        for place, token in enumerate(group):
            token.memory = memory_of_row(memory, place)
            token.gain = None if gain is None else gain[place]

    active = tokens
    for step in range(1, limit + 1):
        if isinstance(backprop, Truncated) and step > 1 and (step - 1) % backprop.every == 0:
            for token in tokens:
                token.detach()
        for token, made in zip(active, block.naive_step(tokens, active, step), strict=True):
            token.state = (
                made if token.gain is None else token.state + token.gain * (made - token.state)
            )
        for group in groups(active):
            decision, memory = rule.decide(
                view(group, step), join_memories([token.memory for token in group])
            )
            for place, token in enumerate(group):
                token.memory = memory_of_row(memory, place)
                token.gain = None if decision.gain is None else decision.gain[place]
                leaves = bool(decision.halt[place]) or step == limit
                wanted = decision.mass[place].double()
                spent = token.remaining if leaves or wanted > token.remaining else wanted
                said = {name: value[place : place + 1] for name, value in decision.aux.items()}
                token.total = add_readout(recurrence, token.total, token.state, spent, said)
                token.mass.append(spent)
                token.remaining = token.remaining - spent
                if leaves:
                    token.output = finish_readout(recurrence, token.total, token.state)
        active = [token for token in active if token.output is None]
    return tokens


def _view(
    recurrence: Recurrence, group: list[_Token], step: int, limit: int, length: int
) -> StepView:
    row = torch.tensor([token.row for token in group])
    position = torch.tensor([token.position for token in group])
    at = torch.full_like(row, step)

    def logits(aux: Mapping[str, Tensor] | None = None) -> Tensor:
        assert recurrence.head is not None
        stopped = []
        for place, t in enumerate(group):
            said = {name: value[place : place + 1] for name, value in (aux or {}).items()}
            stopped.append(
                finish_readout(
                    recurrence,
                    add_readout(recurrence, t.total, t.state, t.remaining, said),
                    t.state,
                )
            )
        return recurrence.head(torch.stack(stopped))

    return StepView(
        step=at,
        max_steps=limit,
        entering=torch.stack([token.entering for token in group]),
        state=torch.stack([token.state for token in group]),
        remaining=torch.stack([token.remaining for token in group]),
        row=row,
        position=position,
        logits=logits,
        uniform=lambda: recurrence.draw(
            Slots(row * length + position, row, position, at, None, int(row[-1]) + 1, length)
        ),
    )
