"""Q-learning of when to halt, one decision a sequence."""

import torch
from torch import Tensor

from halting.costs.q_learning import QLearning
from halting.errors import UsageError
from halting.gate import Gate
from halting.readout import DeepSupervision
from halting.rule import HaltingRule
from halting.sequences import Sequences
from halting.step import Memory, StepDecision, StepView
from halting.trace import LoopTrace


class QHalt(HaltingRule):
    """Leave once halting is worth more than going on: q_halt > q_continue (HRM, Wang et al. 2025,
    arXiv 2506.21734, "Adaptive computational time").

    (q_halt, q_continue)_n = W·s̄_n + b, with s̄_n the mean state of the sequence's tokens after
    step n. Their sigmoids estimate the chance that the sequence is right if it halts here, and if
    it goes on and halts well. All tokens of a sequence leave together with all their mass, at the
    first n ≥ m with q_halt > q_continue, or at the limit N. In training the minimum m is, with
    probability `explore`, uniform over 2 .. N, else 1; it is drawn once a sequence.

    The cost needs q one step on. So in training a sequence spends its mass at n, is computed once
    more, and leaves at n + 1 with nothing left. That step is marked with aux "looks_ahead": answer,
    ponder and what the task's loss trains end at n. A sequence that spends its mass at N leaves
    there, with no step to look ahead to. In evaluation it leaves at n itself.

    Differs from the source:
    - The gate reads the mean state; HRM reads the first position alone, which it prepends for the
      puzzle's identity. A batch here has no such position, and a mean depends on no one place. With
      one token they are the same.
    - It halts in evaluation too. The public code always runs N steps there, so it saves nothing.
    - m is drawn once a sequence, as in the paper; the public code draws again at every step, so
      that its chance to explore shrinks to that of each step alone.
    - No step N + 1 is computed to look ahead from N, where the public code computes one.

    Not causal. Its gate gets gradient from `QLearning` alone, through aux "q_halt" and
    "q_continue"; "value" is what being at a step is worth, max(q_halt, q_continue), or q_halt at N,
    where halting is all that is left. Costs two dot products a sequence and step, and in training
    one step more for a sequence that halts before N.

    Args:
        dim: D, width of the state.
        bias_init: starting logit of both; equal, so that nobody halts before it has learned to.
        explore: the chance of a random minimum, in [0, 1].

    Raises:
        UsageError: for `explore` outside of [0, 1].
    """

    causal = False
    by_sequence = True
    gives_aux = ("q_halt", "q_continue", "value", "looks_ahead")
    default_readout = DeepSupervision
    default_cost = QLearning

    def __init__(self, dim: int, bias_init: float = -5.0, explore: float = 0.1):
        super().__init__()
        if not 0.0 <= explore <= 1.0:
            raise UsageError(
                f"explore is {explore}.",
                "It is the chance that a sequence is given a random minimum of steps in training.",
                "Use a probability in [0, 1], such as 0.1.",
            )
        self.gate = Gate(dim, bias_init, num_logits=2)
        self.explore = explore

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        return {
            "minimum": self._minimum(view) if self.training else torch.ones_like(view.step)
        }, None

    def _minimum(self, view: StepView) -> Tensor:
        """[A] the step before which a token's sequence may not halt: one draw says both whether and
        which."""
        sequences = Sequences.by_row(view.row)
        draw = view.uniform()[sequences.first][sequences.of]
        above = (
            (draw / max(self.explore, 1e-9) * (view.max_steps - 1))
            .long()
            .clamp(max=max(view.max_steps - 2, 0))
        )
        return torch.where(draw < self.explore, 2 + above, 1)

    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        assert isinstance(memory, dict) and isinstance(memory["minimum"], Tensor)
        halt, go_on = Sequences.by_row(view.row).ask(self.gate, view.state).unbind(-1)
        stops = (halt > go_on) & (view.step >= memory["minimum"])
        looks_ahead = (view.remaining == 0) & self.training
        decision = StepDecision(
            mass=torch.where(stops, view.remaining, 0.0),
            halt=looks_ahead if self.training else stops,
            score=halt - go_on,
            aux={
                "q_halt": halt,
                "q_continue": go_on,
                "value": torch.where(view.step >= view.max_steps, halt, torch.maximum(halt, go_on)),
                "looks_ahead": looks_ahead,
            },
        )
        return decision, memory

    def ponder(self, trace: LoopTrace) -> Tensor:
        """The step on which the mass was spent; in training one less than was executed, save at the
        limit."""
        return (trace.ran & ~trace.aux["looks_ahead"]).sum(-1).to(trace.mass.dtype)
