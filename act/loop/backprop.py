"""How gradients go back through the loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from act.blocks.block import BlockStep
from act.caches.cache import KeyValueCache
from act.context import LoopContext
from act.loop.transforms import transforming
from act.slots import Slots
from halting.counts import is_count
from halting.errors import UsageError

StepFunction = Callable[[Tensor, Tensor, Slots, KeyValueCache, LoopContext], BlockStep]
"""(state, inputs, slots, cache, context) → what the block gives: `LoopBlock.step`."""


@dataclass(frozen=True)
class Backprop:
    """Full backpropagation through all steps; the other schemes are this one with a cut or with
    recomputation.

    Attributes:
        cuts: it detaches state and cache at some step.
        recomputes: it runs a step again on the way back, where a cache written in place would be
            written twice.
        counts_from_last: it has to know beforehand at which step all tokens leave, and is refused
            with rules that cannot say (`HaltingRule.fixed_depth`).
    """

    cuts: ClassVar[bool] = False
    recomputes: ClassVar[bool] = False
    counts_from_last: ClassVar[bool] = False

    def run(
        self,
        step: StepFunction,
        state: Tensor,
        inputs: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext,
    ) -> BlockStep:
        """One loop step."""
        return step(state, inputs, slots, cache, context)

    def cuts_before(self, step: int, last: int) -> bool:
        """Whether state and cache are detached before step `step`, counted from 1; `last` is the
        last one there is."""
        return False


@dataclass(frozen=True)
class Truncated(Backprop):
    """State and cache are detached after every k-th step, counted from the first: so a token's
    gradient never depends on who else is in the batch, or on how long they think. k = 1 is the
    one-step gradient of HRM.

    Args:
        every: k ≥ 1.

    Raises:
        UsageError: for less.
    """

    every: int
    cuts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_count(self, self.every)

    def cuts_before(self, step: int, last: int) -> bool:
        return step > 1 and (step - 1) % self.every == 0


@dataclass(frozen=True)
class LastSteps(Backprop):
    """The gradient goes back through the last k steps alone (Huginn, Geiping et al. 2025: k = 8):
    state and cache are detached once, k steps before the end. Activations of earlier steps are not
    kept.

    Only where depth is fixed beforehand: with a rule that lets tokens go one by one, a token's last
    steps would depend on who else is in the batch.

    Args:
        steps: k ≥ 1.

    Raises:
        UsageError: for less.
    """

    steps: int
    cuts: ClassVar[bool] = True
    counts_from_last: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_count(self, self.steps)

    def cuts_before(self, step: int, last: int) -> bool:
        return step > 1 and step == last - self.steps + 1


@dataclass(frozen=True)
class Checkpointed(Backprop):
    """Full backpropagation that keeps only each step's input and computes the rest again on the way
    back.

    A block may draw (dropout), from torch's generators: a step is computed again with the random
    state, and the autocast state, that it had the first time, and what is drawn next is what it
    would have been. So gradients are those of `Backprop` under the same seed.
    """

    recomputes: ClassVar[bool] = True

    def run(
        self,
        step: StepFunction,
        state: Tensor,
        inputs: Tensor,
        slots: Slots,
        cache: KeyValueCache,
        context: LoopContext,
    ) -> BlockStep:
        # Transforms of torch.func take no hooks on what is saved, so there all of it is.
        if not torch.is_grad_enabled() or transforming():
            return step(state, inputs, slots, cache, context)
        if slots.full and slots.computes is None:
            # This step writes every row, so what was there need not be kept for it.
            cache = cache.blank()
        # Non-reentrant: the reentrant kind fails under ZeRO-2 and without a ZeRO-3 leaf. What the
        # second run returns is dropped, so an auxiliary loss counts once. To keep the random state
        # costs 0 to 0.5 % of a step of 2 ms on a CPU, so it is kept whether the block draws or not.
        result = checkpoint(
            step,
            state,
            inputs,
            slots,
            cache,
            context,
            use_reentrant=False,
            preserve_rng_state=True,
        )
        assert isinstance(result, BlockStep)
        return result


def _check_count(backprop: Backprop, steps: object) -> None:
    if not is_count(steps):
        raise UsageError(
            f"{backprop} cuts the gradient after {steps!r} steps.",
            "It counts steps of the loop.",
            "Use a whole number, 1 or more.",
        )
