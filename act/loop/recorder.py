"""What the loop writes down as it runs, packed, and the trace and output that it becomes."""

import torch
from jaxtyping import Float
from torch import Tensor

from act.slots import Slots
from halting.step import StepDecision
from halting.trace import LoopTrace, PackedSteps


class TraceRecorder:
    """Packed records of each step, and exit bins: each token's output, written once, when it
    leaves.

    Args:
        tokens: the slots of all valid tokens, before step 1.
        dtype: of the mass, float32 or wider.
    """

    def __init__(self, tokens: Slots, dtype: torch.dtype):
        self.tokens = tokens
        self.dtype = dtype
        self.index: list[Tensor] = []
        self.step: list[Tensor] = []
        self.mass: list[Tensor] = []
        self.score: list[Tensor] = []
        self.aux: dict[str, list[Tensor]] = {}
        self.states: list[Tensor] = []
        self.lens: list[Tensor] = []
        self.block_loss: list[Tensor] = []
        self.exits: list[tuple[Tensor, Tensor]] = []

    @property
    def num_steps(self) -> int:
        """How many steps are recorded."""
        return len(self.index)

    def record(self, slots: Slots, mass: Tensor, decision: StepDecision) -> None:
        """One step of the active tokens."""
        self.index.append(slots.index)
        self.step.append(slots.step)
        self.mass.append(mass)
        self.score.append(decision.score)
        for name, value in decision.aux.items():
            self.aux.setdefault(name, []).append(value)

    def leave(self, index: Tensor, output: Tensor) -> None:
        """Tokens, by their flat place [A], that are done, and what they put out [A D]."""
        self.exits.append((index, output))

    def output(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Every token's output in its place; 0 on padding, and for tokens that `keep_going` cut
        off."""
        if len(self.exits) == 1 and len(self.exits[0][0]) == self.tokens.batch * self.tokens.length:
            return self.exits[0][1].view(x.shape)
        if not self.exits:
            return torch.zeros_like(x)
        index = torch.cat([index for index, _ in self.exits])
        values = torch.cat([output for _, output in self.exits])
        blank = values.new_zeros(self.tokens.batch * self.tokens.length, values.shape[-1])
        return blank.index_copy(0, index, values).view(x.shape)

    def trace(self) -> LoopTrace:
        """The record of the run."""
        batch = self.tokens.batch
        length = self.tokens.length
        num_steps = self.num_steps
        index = torch.cat(self.index)
        step = torch.cat(self.step) - 1
        packed = PackedSteps(torch.cat(self.mass), index, step)

        def unpack(values: list[Tensor]) -> Tensor:
            return packed.unpack(torch.cat(values), batch, length, num_steps)

        valid = torch.zeros(batch * length, dtype=torch.bool, device=index.device)
        steps = torch.zeros(batch * length, dtype=torch.int64, device=index.device)
        return LoopTrace(
            mass=unpack(self.mass),
            score=unpack(self.score),
            steps=steps.scatter_add_(0, index, torch.ones_like(index)).view(batch, length),
            valid=valid.index_fill(0, self.tokens.index, True).view(batch, length),
            aux={name: unpack(values) for name, values in self.aux.items()},
            states=PackedSteps(torch.cat(self.states), index, step) if self.states else None,
            lens=PackedSteps(torch.cat(self.lens), index, step) if self.lens else None,
            block_loss=unpack(self.block_loss) if self.block_loss else None,
        )
