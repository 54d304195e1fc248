"""A run of the loop between two steps."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from act.caches.cache import KeyValueCache
from act.context import LoopContext
from act.loop.recorder import TraceRecorder
from act.slots import Partition, Slots
from halting.errors import UsageError
from halting.step import Memory, keep_rows


@dataclass(frozen=True)
class LoopRun:
    """What one run is called with, the same at every step.

    Args:
        x: [B L D], what the loop starts from, and what is injected at each step.
        context: what the block reads beside.
        limit: N, the step limit of this run.
        fixed_depth: the step at which every token leaves, where the rule knows it beforehand; 0
            where it does not.
        packs: the block computes the active tokens alone, rather than every position.
        record_lens: the trace keeps what the readout would have been had each token stopped at each
            step.
    """

    x: Float[Tensor, "B L D"]
    context: LoopContext
    limit: int
    fixed_depth: int
    packs: bool
    record_lens: bool


@dataclass(frozen=True)
class LoopState:
    """A run after some of its steps: what `Recurrence.step` takes and gives. It is used up by the
    next step, which writes on into its record and its cache.

    Args:
        run: what the run was called with.
        num_steps: the steps taken so far; 0 before the first.
        slots: the A active tokens, and the step that they take next.
        state: [A D], their states.
        inputs: [A D], what is injected into them at each step.
        remaining: [A] float32 or wider, the exit mass that they still hold.
        total: [A ...], the readout's accumulator, where it has one.
        gain: [A], what multiplies their next update, for rules that give one.
        memory: what the rule remembers of them.
        cache: the keys and values of every token, also of those that left.
        frozen: [B*L D], the states of all tokens, for blocks that are given every position.
        ends: of a collective block, states from which a backward passes through every step.
        recorder: what the trace and the output are made of.
    """

    run: LoopRun
    num_steps: int
    slots: Slots
    state: Float[Tensor, "A D"]
    inputs: Float[Tensor, "A D"]
    remaining: Float[Tensor, " A"]
    total: Tensor | None
    gain: Tensor | None
    memory: Memory
    cache: KeyValueCache
    frozen: Tensor | None
    ends: tuple[Tensor, ...]
    recorder: TraceRecorder

    @property
    def active(self) -> int:
        """A, how many tokens are still in the loop."""
        return len(self.slots)

    @property
    def at_limit(self) -> bool:
        """Whether the run has taken all the steps that it may."""
        return self.num_steps >= self.run.limit

    @property
    def done(self) -> bool:
        """Whether no token has a step left to take. A run takes at least one step, also without a
        token."""
        return self.at_limit or (self.num_steps > 0 and not self.active)

    def keep(self, partition: Partition) -> "LoopState":
        """The run with the rows of those who stay in the loop."""
        rows = partition.stay
        return replace(
            self,
            slots=partition.slots,
            state=self.state[rows],
            inputs=self.inputs[rows],
            remaining=self.remaining[rows],
            total=keep_rows(self.total, rows),
            gain=keep_rows(self.gain, rows),
            memory=keep_rows(self.memory, rows),
        )

    def check_can_step(self) -> None:
        """Refuses a step that cannot be taken.

        Raises:
            UsageError: at the limit, and for a state from which a step was taken already.
        """
        if self.at_limit:
            raise UsageError(
                f"This run has taken its {self.run.limit} steps.",
                "Its last tokens left at the step limit, so nothing is left to compute.",
                "Begin it with a larger max_steps, and loop while not state.done.",
            )
        if self.num_steps != self.recorder.num_steps:
            raise UsageError(
                f"A step was taken already from this state, which is after {self.num_steps} steps.",
                f"Its record and its cache are written on, and are after "
                f"{self.recorder.num_steps} steps by now.",
                "Go on from what step returned: state = recurrence.step(state).",
            )
