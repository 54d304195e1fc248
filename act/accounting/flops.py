"""Floating-point operations of a looped model, as a formula in the steps that a token takes."""

from dataclasses import dataclass

from torch import nn

from act.blocks.gru import GRUBlock
from act.layers.attention import Attention
from act.layers.feed_forward import FeedForward
from act.models.looped_transformer import LoopedTransformer


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
    model: LoopedTransformer, length: int, checkpointed: bool = False, inference: bool = False
) -> Flops:
    """The formula of a model; its parameters may be on the meta device.

    A halting rule is taken to apply each of its weight matrices once a step; one that reads logits
    does so every step.

    Args:
        model: any looped Transformer.
        length: L, the tokens of a sequence, which each token attends to.
        checkpointed: each step is computed again on the way back, up to the last thing that a
            gradient needs: not the last linear map, whose result is needed by nothing.
        inference: without gradient, where a readout that trains every step answers at the last one
            alone.
    """
    looped = model.recurrence.block
    trains_each_step = model.recurrence.readout.keeps_states
    head = part_flops(model.head, length)
    coda = part_flops(model.coda, length)
    embedding = part_flops(
        model.embedding
    )  # a linear map where positions read vectors; looking a token up is free
    once = embedding + part_flops(model.prelude, length) + coda + head
    deciding = rule_flops(model) + (head + coda if trains_each_step and not inference else 0)
    block = part_flops(looped, length)
    recomputed = block - kept_flops(looped) if checkpointed else 0
    return Flops(
        once,
        block,
        deciding,
        recomputed,
        embedding + (2 * (head + coda) if trains_each_step else 0),
    )


def rule_flops(model: LoopedTransformer) -> int:
    """What a model's halting rule costs a token at each step, the logits that it reads included."""
    rule = model.recurrence.rule
    own = sum(2 * parameter.numel() for parameter in rule.parameters() if parameter.dim() >= 2)
    return own + (part_flops(model.head) if rule.reads_logits else 0)


def kept_flops(block: nn.Module) -> int:
    """What checkpointed backprop does not compute again: a token's last linear map in a looped
    block."""
    if isinstance(block, GRUBlock):
        return 0
    return part_flops(
        [module for module in block.modules() if isinstance(module, FeedForward)][-1].down
    )


def part_flops(part: nn.Module, length: int = 0) -> int:
    """What a part costs a token that attends to `length` keys; without attention by default.

    Linear maps and GRU cells: two for each weight. Attention: query · key and probability · value,
    for each key.
    """
    total = 0
    for module in part.modules():
        if isinstance(module, nn.Linear):
            total += 2 * module.weight.numel()
        elif isinstance(module, nn.GRUCell):
            total += 2 * (module.weight_ih.numel() + module.weight_hh.numel())
        elif isinstance(module, Attention):
            total += 4 * module.num_heads * module.head_dim * length
    return total
