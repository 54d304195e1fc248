"""What a model around a loop has to be, so that training, maps and reports can work with it."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from act.blocks.block import LoopBlock
from act.layers.saved_numbers import SavedNumbers
from act.loop.recurrence import Recurrence
from act.models.asked_losses import Answers
from halting.errors import UsageError
from halting.readout import Readout
from halting.rule import HaltingRule
from halting.trace import LoopTrace, PackedSteps


class ModelOutput(NamedTuple):
    """What a looped model says. A model of one's own returns the first two, and the others where
    its readout keeps states or a lens was asked for (`LoopedModel.output` makes all four).

    Args:
        logits: [B L V].
        trace: the record of the loop, as `Recurrence` returns it.
        step_logits: logits [M V] of every executed step, packed: had the token stopped there.
            Present when the readout trains every step, or when a lens was asked for.
        step_weights: [B L N] what each step's own loss weighs, where the readout trains every step.
        answers: what the model was asked for instead of logits: then these have no rows, and there
            are no step_logits.
    """

    logits: Tensor
    trace: LoopTrace
    step_logits: PackedSteps | None
    step_weights: Tensor | None = None
    answers: Answers | None = None


@dataclass(frozen=True)
class OutsideFlops:
    """FLOPs of one token outside of the loop, matrix products alone.

    Args:
        embedding: of reading it, where no gradient is wanted of what is read.
        prelude: before the loop.
        coda: after it, but for the head; where a coda attends, over every key of the sequence.
        head: of the logits.
    """

    embedding: int
    prelude: int
    coda: int
    head: int


@dataclass(frozen=True)
class OutsideNumbers:
    """What autograd keeps of one token outside of the loop.

    Args:
        before: before the loop.
        after: after it, but for the head.
        head: of the logits.
        losses: of the head where it is asked for losses instead; None where it gives logits always.
        losses_once: numbers that it keeps then whatever the tokens, such as its weight's gradient.
    """

    before: SavedNumbers
    after: SavedNumbers
    head: SavedNumbers
    losses: SavedNumbers | None = None
    losses_once: int = 0


class LoopedModel(nn.Module):
    """The seam of a whole model: an `nn.Module` with one `Recurrence` inside. Modules are declared
    in the order in which they run, so that what is declared behind `recurrence` counts as run after
    it.

    A run hands the constructor, of these, those that its signature asks for: `vocab_size`,
    `vector_size`, `max_length` and `causal` of the task; `recurrence`, the loop ready made, or what
    it is made of: `block`, `rule`, `readout`, `max_steps`, `path`, `backprop`; `attention`, the
    layout; and `make_block`, which makes the block when its turn comes. Every other argument is an
    option; `width` has to be one.

    Attributes:
        width: D, of the states that loop.
        recurrence: the loop; the rule's logits are wired by `use`.
        causal: tokens see earlier ones only.
        vector_size: K, where positions read vectors of K numbers; None where they read tokens.
        max_length: the longest sequence it can take; None for any.
        mixes_after_loop: tokens see one another after the loop, so that what the model would say is
            not known inside of it.
        block_defaults: options that a looped block gets from this model unless told otherwise.
    """

    width: int
    recurrence: Recurrence
    causal: bool = False
    vector_size: int | None = None
    max_length: int | None = None
    mixes_after_loop: bool = False
    block_defaults: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def forward(
        self,
        tokens: Int[Tensor, "B L"] | Int[Tensor, "B L K"],
        valid: Bool[Tensor, "B L"] | None = None,
        *,
        max_steps: int | None = None,
        record_lens: bool = False,
    ) -> ModelOutput:
        """Logits and the record of the loop.

        Args:
            tokens: what is read; anything on padding.
            valid: True on real tokens; None when all are.
            max_steps: another step limit for this call; for the recurrence.
            record_lens: give `step_logits`; for the recurrence.
        """

    def read(self, state: Tensor) -> Tensor:
        """Logits [A V] of read-out states [A D], each for itself: what rules that read logits ask,
        and what `output` applies.

        Raises:
            UsageError: where the model has none.
        """
        raise UsageError(
            f"{type(self).__name__} has no `read`.",
            "Logits of single states are asked for: by a rule that reads them, a readout that "
            "trains every step, or a ponder map.",
            "Write `def read(self, state): return self.head(state)` in the class.",
        )

    def output(self, states: Tensor, trace: LoopTrace, record_lens: bool = False) -> ModelOutput:
        """The output of a model that reads each token's state for itself, from what `recurrence`
        returned: `return self.output(*self.recurrence(x, ...), record_lens)`."""
        packed = trace.lens if record_lens else trace.states
        return ModelOutput(
            self.read(states),
            trace,
            None if packed is None else packed._replace(values=self.read(packed.values)),
            self.step_weights(trace),
        )

    def step_weights(self, trace: LoopTrace) -> Tensor | None:
        """What each step's own loss weighs, where the readout trains every step."""
        return None if trace.states is None else self.recurrence.readout.loss_weights(trace)

    def use(self, rule: HaltingRule, readout: Readout | None = None) -> None:
        """Puts another rule into the loop for evaluation, and another readout: the rule's default
        if None.

        Raises:
            UsageError: for parts that cannot work together.
        """
        self.recurrence.use(rule, readout)
        self.recurrence.head = self.read if rule.reads_logits else None

    def leaves_loop_each_step(self, record_lens: bool) -> bool:
        """Whether something outside of the recurrence is called once a step, so that under ZeRO-3
        the ranks have to take equally many."""
        keeps = record_lens or self.recurrence.readout.keeps_states
        return self.recurrence.rule.reads_logits or (self.mixes_after_loop and keeps)

    def check_length(self, length: int) -> None:
        """Refuses sequences that are too long.

        Raises:
            UsageError: beyond `max_length`.
        """
        if self.max_length is not None and length > self.max_length:
            raise UsageError(
                f"A sequence of {length} positions is too long.",
                f"The model learned {self.max_length} of them (max_length) and knows no other.",
                "Cut the sequence, or build the model with a larger max_length or "
                'positions="rotary".',
            )

    def compile_parts(self) -> None:
        """`LoopBlock.compile_parts` for each block."""
        for module in self.modules():
            if isinstance(module, LoopBlock):
                module.compile_parts()

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def outside_flops(self, length: int) -> OutsideFlops | None:
        """What a token costs outside of the loop in a sequence of `length`; None has it counted on
        a tiny run."""
        return None

    def outside_numbers(self) -> OutsideNumbers | None:
        """What autograd keeps outside of the loop; None has it counted on a tiny run."""
        return None
