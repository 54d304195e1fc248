"""A look at a block, a rule or a model of somebody's own before it trains: a tiny run that shows
what would otherwise go wrong without a word."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from act.blocks.batch_independence import (
    block_name,
    check_batch_independence,
    differ,
    undisturbed,
)
from act.blocks.block import LoopBlock
from act.caches.cache import FunctionalCache
from act.loop.recurrence import Recurrence
from act.loop.rule_checks import rule_name
from act.models.looped_model import LoopedModel, ModelOutput
from act.slots import Slots
from halting.errors import UsageError

_LENGTH = 5


def check_block(block: LoopBlock, dim: int, causal: bool, max_length: int | None = None) -> None:
    """Runs one step of a block on two short sequences, in evaluation mode; whether it mixes them is
    looked at in training mode, too.

    Args:
        block: any, on a real device; without weights (the meta device) nothing is looked at.
        dim: D.
        causal: the model promises that tokens see earlier ones only.
        max_length: the longest sequence that it can take.

    Raises:
        UsageError: for one that fails, gives another shape, mixes the sequences of a batch, or
            looks ahead although the model is causal.
    """
    name = block_name(block)
    parameter = next(block.parameters(), torch.zeros(()))
    if parameter.is_meta:
        return
    length = min(_LENGTH, max_length or _LENGTH)
    generator = torch.Generator().manual_seed(0)
    x, other = torch.randn(2, 2, length, dim, generator=generator).to(parameter).unbind()

    def made_of(x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        try:
            step = block.step(flat, flat, Slots.everywhere(x), FunctionalCache(None))
        except Exception as error:
            raise UsageError(
                f"The block {name} cannot take a step: {type(error).__name__}: {error}",
                f"It was given two sequences of {length} states of width {dim}.",
                "Fix it, or its options; `--model.width` is what the states have.",
            ) from error
        for what, tensor in (("reads", step.entering), ("gives", step.state)):
            if tensor.shape != flat.shape:
                raise UsageError(
                    f"The block {name} {what} a tensor of shape {list(tensor.shape)} where states "
                    f"are {list(flat.shape)}.",
                    "The loop puts back what the block gives, so each token keeps its width.",
                    "Give [A D] for [A D], or [B L D] for [B L D].",
                )
        return step.state.view(x.shape)

    with _looking(block):
        made = made_of(x)
        for training in (False, True):
            block.train(training)
            check_batch_independence(block, length, dim, x)
        block.eval()
        ahead = torch.cat((x[:, :-1], other[:, -1:]), dim=1)
        if causal and length > 1 and differ(made[:, :-1], made_of(ahead)[:, :-1]):
            raise UsageError(
                f"The block {name} looks ahead.",
                "The task is causal: a token may see earlier ones alone, and here its state "
                "changed when a later one did.",
                "Give the block a causal mask (a block that takes `causal` is told), or choose a "
                "task that is not causal.",
            )
    block.batch_independent = True


def check_model(model: nn.Module, vocab_size: int, vector_size: int | None) -> None:
    """Runs a model in evaluation mode, on two short sequences.

    Args:
        model: any, on a real device; without weights (the meta device) no more is looked at than
            what it has.
        vocab_size: V, the answers.
        vector_size: K, where positions read vectors.

    Raises:
        UsageError: for one that lacks something, fails, or says something else than a ModelOutput
            of [B L V].
    """
    name = type(model).__name__
    for what, kind in (("recurrence", Recurrence), ("width", int)):
        if not isinstance(getattr(model, what, None), kind):
            raise UsageError(
                f"The model {name} has no `{what}`.",
                f"Training, maps and engines find the loop there: a {kind.__name__}.",
                f"Set self.{what} in its constructor, after super().__init__().",
            )
    assert isinstance(model, LoopedModel)
    if model.device.type == "meta":
        return
    length = min(_LENGTH, model.max_length or _LENGTH)
    shape = (2, length) if vector_size is None else (2, length, vector_size)
    tokens = torch.zeros(shape, dtype=torch.int64, device=model.device)
    with _looking(model):
        try:
            output = model(tokens, record_lens=True)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"The model {name} cannot run: {type(error).__name__}: {error}",
                f"It was given tokens {list(shape)}, and record_lens=True.",
                "Mend its forward(tokens, valid, *, max_steps, record_lens).",
            ) from error
    wanted = [2, length, vocab_size]
    found = list(output.logits.shape) if isinstance(output, ModelOutput) else type(output).__name__
    if found != wanted:
        raise UsageError(
            f"The model {name} says {found}.",
            f"For tokens {list(shape)} it has to return a ModelOutput with logits {wanted}.",
            "Write `return self.output(*self.recurrence(x, valid, ...), record_lens)`.",
        )
    if output.step_logits is None:
        raise UsageError(
            f"The model {name} gives no step_logits where record_lens asks for them.",
            "Ponder maps show what each token would have said at each step.",
            "Hand record_lens on to the recurrence and to `self.output`.",
        )


def check_rule(model: LoopedModel, tokens: Tensor, valid: Tensor, **inputs: Tensor) -> None:
    """Runs a model once in training and once in evaluation mode, for its halting rule; a copy, so
    that what a rule keeps beside its weights stays what it is.

    Args:
        model: any, on a real device; without weights nothing is looked at.
        tokens: what it reads, of one example or a few.
        valid: True on real tokens.
        inputs: what else it reads.

    Raises:
        UsageError: for a rule that fails, or that returns what the loop cannot go by.
    """
    if model.device.type == "meta":
        return
    copied = copy.deepcopy(model, {id(each): each for each in model.parameters()})
    name = rule_name(model.recurrence.rule)
    with undisturbed(model.device), torch.no_grad():
        for training in (True, False):
            try:
                copied.train(training)(tokens, valid, **inputs)
            except UsageError:
                raise
            except Exception as error:
                raise UsageError(
                    f"A run with the halting rule {name} fails: {type(error).__name__}: {error}",
                    f"It was a run in {'training' if training else 'evaluation'} mode, over "
                    f"tokens {list(tokens.shape)}.",
                    f"Fix {name}; act.testing.HaltingRuleContract says what a rule has to be.",
                ) from error


@contextmanager
def _looking(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradient, and with draws that nobody misses."""
    training = [(each, each.training) for each in module.modules()]
    device = next(module.parameters(), torch.zeros(())).device
    module.eval()
    try:
        with undisturbed(device), torch.no_grad():
            yield
    finally:
        for each, was in training:
            each.training = was
