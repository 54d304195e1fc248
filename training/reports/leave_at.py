"""Tokens that leave at steps that somebody else has chosen: for exits that no rule could take, such
as an oracle's, and for benchmarks that decide how much is active."""

import torch
from jaxtyping import Int
from torch import Tensor

from halting.readout import FinalState
from halting.rule import HaltingRule
from halting.step import Memory, StepDecision, StepView


class LeaveAt(HaltingRule):
    """Each token leaves at the step that it was given.

    Args:
        steps: [B L], counted from 1; a token that is given none (0) leaves at once.
    """

    default_readout = FinalState

    def __init__(self, steps: Int[Tensor, "B L"]):
        super().__init__()
        self.register_buffer("steps", steps, persistent=False)

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        assert isinstance(self.steps, Tensor)
        return self.steps.to(view.row.device)[view.row, view.position], None

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, Tensor)
        nothing = torch.zeros_like(view.remaining)
        return StepDecision(mass=nothing, halt=view.step >= memory, score=nothing), memory
