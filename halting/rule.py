"""The seam every halting rule fills: it looks at one step of the active tokens and decides for
each."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from halting.costs.cost import PonderCost
from halting.errors import UsageError
from halting.exit_threshold import ExitThreshold
from halting.readout import Readout
from halting.step import Memory, StepDecision, StepView, alone
from halting.trace import LoopTrace


class HaltingRule(nn.Module):
    """Decides, step by step, which tokens have thought enough.

    A subclass sets the flags, names the readout and cost that train it, and writes `decide`;
    `begin` only where it needs a memory or chooses before the first step. A rule never sees ranks,
    devices, padding or caches, and never adds up probabilities: the loop does. Everything in a
    `StepView` belongs to active tokens alone.

    Attributes:
        causal: decides from this and earlier tokens only; otherwise it is refused in causal models.
        spreads_mass: gradient reaches its gate through the mass.
        gives_gain: the task's gradient reaches its gate through the gain.
        gain_reads_state: the gain of a step is computed from the state before it, so that gradient
            goes back through it where truncated backpropagation has cut the state; refused there.
        reads_logits: calls `view.logits()`.
        by_sequence: the tokens of a sequence leave together.
        ranks_tokens: it lets tokens go by their rank among those of their sequence, so none can be
            held back.
        gives_aux: the names in `StepDecision.aux`.
        exit_threshold: the option that says how early tokens leave in evaluation; None where no
            option does.
        default_readout, default_cost: the classes that train it; None where it has no cost.

    Raises:
        UsageError: when built, for a class that leaves an abstract method such as `decide`
            unwritten.
    """

    causal: bool = True
    spreads_mass: bool = False
    gives_gain: bool = False
    gain_reads_state: bool = False
    reads_logits: bool = False
    by_sequence: bool = False
    ranks_tokens: bool = False
    gives_aux: ClassVar[tuple[str, ...]] = ()
    exit_threshold: ExitThreshold | None = None
    default_readout: ClassVar[type[Readout]]
    default_cost: type[PonderCost] | None = None

    def __init__(self) -> None:
        super().__init__()
        # An nn.Module has no ABCMeta, so the check is here. A class between this one and a rule may
        # stay abstract.
        kind = type(self)
        missing = [
            name
            for name in dir(kind)
            if getattr(getattr(kind, name, None), "__isabstractmethod__", False)
        ]
        if missing:
            raise UsageError(
                f"{kind.__name__} is no complete halting rule: it has no "
                f"{' and no '.join(missing)}.",
                "The loop asks a rule after every step, and this class has no answer.",
                f"Write {' and '.join(f'{name}(self, ...)' for name in missing)} in "
                f"{kind.__name__}.",
            )

    def begin(self, view: StepView) -> tuple[Memory, Tensor | None]:
        """Before step 1 (`view.state` and `view.entering` are what the first step will start from):
        the memory with one row a token, and the gain [A] on the first update or None."""
        return None, None

    @abstractmethod
    def decide(self, view: StepView, memory: Memory) -> tuple[StepDecision, Memory]:
        """After a step: the decision for each token and the memory to carry on."""

    def end_update(self, over_ranks: Callable[[Tensor], Tensor] = alone) -> None:
        """After each optimizer update: moves what the rule keeps beside its parameters, such as a
        warm-up. A schedule that moved with the forward passes would depend on micro-batches and
        ranks, and each look at the model would push it on. Whoever trains without
        `training.loop.loop` calls it too.

        Args:
            over_ranks: gives the sum of a tensor over all ranks; called by all of them or by none.
        """

    def fixed_depth(self, max_steps: int) -> int | None:
        """The step at which every token leaves under a step limit; None where that is not settled
        beforehand."""
        return None

    def ponder(self, trace: LoopTrace) -> Float[Tensor, "B L"]:
        """The depth that the rule means, in steps, 0 on padding; executed steps unless a rule says
        otherwise."""
        return trace.steps.to(trace.mass.dtype)

    def exit_step(self, trace: LoopTrace) -> Float[Tensor, "B L"]:
        """What evaluation would show as ponder, read off a trace of either mode: the ponder, unless
        a rule exits in evaluation by something else than what it means in training."""
        return self.ponder(trace)
