"""What the executable specification does with a readout, and with a rule's memory: one token at a
time."""

import torch
from torch import Tensor

from act.loop.recurrence import Recurrence
from halting.readout import EveryStep, FinalState, WeightedMean
from halting.step import Memory


def begin_readout(recurrence: Recurrence, state: Tensor) -> Tensor | None:
    readout = recurrence.readout
    if type(readout) is WeightedMean:
        return torch.zeros_like(state)
    total = readout.begin(state[None])
    return None if total is None else total[0]


def add_readout(
    recurrence: Recurrence,
    total: Tensor | None,
    state: Tensor,
    mass: Tensor,
    aux: dict[str, Tensor] | None = None,
) -> Tensor | None:
    readout = recurrence.readout
    if type(readout) in (FinalState, EveryStep):
        return None
    if type(readout) is WeightedMean:
        assert total is not None
        return total + mass * state
    total = readout.add(None if total is None else total[None], state[None], mass[None], aux or {})
    return None if total is None else total[0]


def finish_readout(recurrence: Recurrence, total: Tensor | None, state: Tensor) -> Tensor:
    readout = recurrence.readout
    if type(readout) in (FinalState, EveryStep):
        return state
    if type(readout) is WeightedMean:
        assert total is not None
        return total
    return readout.finish(None if total is None else total[None], state[None])[0]


def memory_of_row(memory: Memory, place: int) -> Memory:
    if isinstance(memory, Tensor):
        return memory[place : place + 1]
    if isinstance(memory, dict):
        return {name: memory_of_row(value, place) for name, value in memory.items()}
    return None if memory is None else tuple(memory_of_row(value, place) for value in memory)


def join_memories(rows: list[Memory]) -> Memory:
    first = rows[0]
    if isinstance(first, Tensor):
        return torch.cat([row for row in rows if isinstance(row, Tensor)])
    if isinstance(first, dict):
        return {
            name: join_memories([row[name] for row in rows if isinstance(row, dict)])
            for name in first
        }
    if first is None:
        return None
    return tuple(
        join_memories([row[i] for row in rows if isinstance(row, tuple)]) for i in range(len(first))
    )
