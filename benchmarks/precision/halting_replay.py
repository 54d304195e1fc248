"""What a halting rule computed inside the loop, and what it would have decided in another precision
from the same states."""

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from halting.gate import Gate
from halting.mass import halting_dtype, settle
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView, keep_rows
from halting.wrappers.wrapper import RuleWrapper

_MOVES = frozenset(
    (
        "alias",
        "clone",
        "detach",
        "expand",
        "index",
        "permute",
        "select",
        "slice",
        "squeeze",
        "t",
        "transpose",
        "unsqueeze",
        "view",
    )
)
"""Operations that compute nothing: a narrow state may go through them before it is widened."""


class NarrowOperations(TorchDispatchMode):
    """Counts the operations inside that give floating-point numbers narrower than float32.

    Args:
        found: how many, by the operation's name and the dtype.
    """

    def __init__(self, found: Counter[str]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        for each in tree_leaves(out):
            if (
                isinstance(each, Tensor)
                and each.is_floating_point()
                and each.dtype.itemsize < 4
                and name not in _MOVES
            ):
                self.found[f"{name} in {each.dtype}"] += 1
        return out


class Watched(RuleWrapper):
    """Keeps what the rule inside was shown and what it decided, and counts its narrow operations.

    Attributes:
        first: the view before step 1 of the last run.
        steps: view and decision of each of its steps.
        narrow: what it computed in less than float32, of all runs.
    """

    def __init__(self, rule: HaltingRule):
        super().__init__(rule)
        self.first: StepView | None = None
        self.steps: list[tuple[StepView, StepDecision]] = []
        self.narrow: Counter[str] = Counter()

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        self.first = view
        self.steps = []
        with NarrowOperations(self.narrow):
            return self.rule.begin(view)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        with NarrowOperations(self.narrow):
            decision, memory = self.rule.decide(view, memory)
        self.steps.append((view, decision))
        return decision, memory


@torch.no_grad()
def moved(
    watched: Watched, dtype: torch.dtype = torch.float64, gate: torch.dtype | None = None
) -> tuple[int, int]:
    """How many tokens of the last run would have left at another step, given the states that they
    had; of how many.

    Args:
        watched: what ran; its rule is one that reads states.
        dtype: what states and weights are widened to, and what the ledger is kept in (float32 or
            wider).
        gate: compute the halting unit in this instead, narrow as it may be.
    """
    first = watched.first
    assert first is not None, "nothing has run"
    rule = copy.deepcopy(watched.rule).to(dtype)
    if gate is not None:
        _narrow_gates(rule, gate)
    width = int(first.position.max()) + 1
    numbers = torch.arange(len(first.row), device=first.row.device)
    places = torch.zeros(
        int(first.row.max() + 1) * width, dtype=torch.int64, device=first.row.device
    )
    places[first.row * width + first.position] = numbers
    remaining = torch.ones(len(numbers), dtype=halting_dtype(dtype), device=first.row.device)
    elsewhere = torch.zeros(len(numbers), dtype=torch.bool, device=first.row.device)
    memory, _ = rule.begin(_as(dtype, first, remaining))
    for view, decided in watched.steps:
        at = places[view.row * width + view.position]
        decision, memory = rule.decide(_as(dtype, view, remaining[at]), memory)
        last = bool((view.step >= view.max_steps).all())
        _, left, leaves = settle(decision, remaining[at], last)
        left_then = torch.ones_like(decided.halt) if last else decided.halt
        elsewhere[at] |= leaves != left_then
        remaining[at] = left
        memory = keep_rows(memory, ~left_then)
    return int(elsewhere.sum()), len(elsewhere)


def _as(dtype: torch.dtype, view: StepView, remaining: Tensor) -> StepView:
    return replace(
        view, entering=view.entering.to(dtype), state=view.state.to(dtype), remaining=remaining
    )


class _NarrowGate(nn.Module):
    """The mistake that law 5 forbids."""

    def __init__(self, gate: Gate, dtype: torch.dtype):
        super().__init__()
        self.gate = gate
        self.dtype = dtype

    def forward(self, state: Tensor) -> Tensor:
        weight = self.gate.weight.to(self.dtype)
        bias = self.gate.bias.to(self.dtype)
        return F.linear(state.to(self.dtype), weight, bias)


def _narrow_gates(rule: nn.Module, dtype: torch.dtype) -> None:
    for name, module in list(rule.named_children()):
        if isinstance(module, Gate):
            setattr(rule, name, _NarrowGate(module, dtype))
        else:
            _narrow_gates(module, dtype)
