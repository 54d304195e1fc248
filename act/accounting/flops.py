"""Floating-point operations of a looped model, as a formula in the steps that a token takes."""

from dataclasses import dataclass

from act.accounting.counted import counted_block_flops, counted_pass_flops
from act.models.looped_model import LoopedModel, OutsideFlops
from halting.rule import HaltingRule


@dataclass(frozen=True)
class Flops:
    """FLOPs of one token; a multiplication and its addition count as two.

    Counted are matrix products, as torch's FlopCounterMode does; norms, activations and softmax are
    not. Attention is counted over every key of the sequence: kernels that skip what a causal mask
    hides do as little as half of it. In a batch of ragged rows the packed path pads the queries of
    attention to the longest row, which comes on top.

    Args:
        once: of a linear embedding, prelude, coda and head, whatever the steps.
        block: of the looped block, each step.
        deciding: of the halting rule, and in training of a readout that answers at every step, each
            step.
        recomputed: of the block once more, on the way back, each step (checkpointed backprop).
        unasked: what the backward pass leaves out of twice the forward one, whatever the steps: the
            gradient of vectors that are read, and all of coda and head on a last state that no loss
            reads, for each step is trained.
    """

    once: int
    block: int
    deciding: int
    recomputed: int = 0
    unasked: int = 0

    @property
    def step(self) -> int:
        """What each step costs."""
        return self.block + self.deciding

    def forward(self, steps: float) -> float:
        """A token's forward pass with this many steps (a mean number, for a mean token)."""
        return self.once + steps * self.step

    def training(self, steps: float) -> float:
        """Its forward and backward pass: the backward pass costs twice the forward one, but for
        what is unasked."""
        return 3 * self.forward(steps) + steps * self.recomputed - self.unasked


def count_flops(
    model: LoopedModel, length: int, checkpointed: bool = False, inference: bool = False
) -> Flops:
    """The formula of a model; its parameters may be on the meta device where it and its block say
    what they cost.

    A halting rule is taken to apply each of its weight matrices once a step; one that reads logits
    does so every step.

    Args:
        model: any looped model.
        length: L, the tokens of a sequence, which each token attends to.
        checkpointed: each step is computed again on the way back, up to the last thing that a
            gradient needs: not the last linear map, whose result is needed by nothing.
        inference: without gradient, where a readout that trains every step answers at the last one
            alone.
    """
    trains_each_step = model.recurrence.readout.keeps_states
    outside = outside_flops(model, length)
    answer = outside.head + outside.coda
    deciding = rule_flops(model) + (answer if trains_each_step and not inference else 0)
    block = block_flops(model, length)
    recomputed = block - model.recurrence.block.flops_kept() if checkpointed else 0
    return Flops(
        outside.embedding + outside.prelude + answer,
        block,
        deciding,
        recomputed,
        outside.embedding + (2 * answer if trains_each_step else 0),
    )


def block_flops(model: LoopedModel, length: int) -> int:
    """What a step of a model's looped block costs a token that attends to `length` keys (0: all but
    attention): as the block says, else counted."""
    block = model.recurrence.block
    said = block.flops(length)
    return counted_block_flops(block, model.width, length) if said is None else said


def outside_flops(model: LoopedModel, length: int, run_length: int | None = None) -> OutsideFlops:
    """What a token costs outside of the loop: as the model says, else counted, all of it but the
    logits as if before the loop.

    Args:
        model: any looped model.
        length: keys that layers outside attend to; 0: all but attention.
        run_length: the sequence that is counted on, where it has to be; `length` unless given.
    """
    said = model.outside_flops(length)
    if said is not None:
        return said
    length = run_length or length
    whole = counted_pass_flops(model, length, lens=False)
    head = counted_pass_flops(model, length, lens=True) - whole
    reads = 1 + model.recurrence.rule.reads_logits
    before = whole - block_flops(model, length) - _own_flops(model.recurrence.rule) - reads * head
    return OutsideFlops(0, max(0, before), 0, head)


def rule_flops(model: LoopedModel) -> int:
    """What a model's halting rule costs a token at each step, the logits that it reads included."""
    rule = model.recurrence.rule
    return _own_flops(rule) + (outside_flops(model, 1).head if rule.reads_logits else 0)


def _own_flops(rule: HaltingRule) -> int:
    return sum(2 * parameter.numel() for parameter in rule.parameters() if parameter.dim() >= 2)
