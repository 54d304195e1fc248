"""THE loop: one weight-tied block applied again and again until a halting rule lets each token
go."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from act.blocks.batch_independence import FirstLook
from act.blocks.block import BlockStep, LoopBlock
from act.caches.cache import FunctionalCache, InPlaceCache, KeyValueCache
from act.caches.rewinding import RewindingCache
from act.context import NO_CONTEXT, LoopContext
from act.loop.backprop import Backprop
from act.loop.checks import (
    check_aux_loss,
    check_can_finish,
    check_max_steps,
    check_pairing,
    check_truncation,
)
from act.loop.recorder import TraceRecorder
from act.loop.rule_calls import RuleCalls
from act.loop.state import LoopRun, LoopState
from act.loop.transforms import NotScriptable, check_transforms, transforming
from act.loop.zero_gradient import attach_zero_gradients
from act.slots import (
    LoopPath,
    Slots,
    check_valid,
    dense_slots,
    packed_slots,
    partition_slots,
    pick,
    place,
)
from halting.mass import halting_dtype, settle
from halting.readout import Readout
from halting.rule import HaltingRule
from halting.step import StepDecision, StepView, keep_rows
from halting.trace import LoopTrace

PACKING_PAYS_FROM = 2048
"""Tokens times width of a batch below which selecting slots costs a training step on a CPU as much
time as it saves (docs/log.md, `ponder profile`). In inference packing always pays."""
Head = Callable[[Float[Tensor, "A D"]], Float[Tensor, "A V"]]


def draw_uniform(tokens: Slots) -> Float[Tensor, " A"]:
    """[A] uniform draws in [0, 1), for rules that sample."""
    return torch.rand(len(tokens), device=tokens.index.device)


class Recurrence(NotScriptable, nn.Module):
    """Applies one block repeatedly to each token until the halting rule releases it, and combines
    the states that the token passed through into its output.

    The loop, not the rule, enforces the six laws of docs/laws.md. The dense path is the reference:
    it evaluates the block at every position. The packed path evaluates only the active tokens and
    returns the same results. The two differ only in the slots they select, so compute scales with
    the number of active tokens. DeepSpeed sees one module, a ZeRO-3 leaf, called once a backward.

    Args:
        block: computes one step.
        rule: decides which tokens leave after each step.
        readout: combines a token's states into its output; the rule's default if None.
        max_steps: N ≥ 1, the step limit.
        path: "packed", "dense", or "auto", which packs if the block supports it and the batch is
            large enough for packing to pay; None packs whenever the block supports it.
        backprop: how gradients propagate back through the loop.

    Attributes:
        head: maps readouts [A D] to logits [A V], for rules that read logits; set by the model.
        keep_going: called with the number of active tokens before each step; returns whether to
            take it. If a step contains collective operations, the ranks of the group must agree.
            It must return True while any token is active: tokens that are cut off output 0 and
            keep their remaining mass.
        draw: supplies `view.uniform()`.

    Raises:
        UsageError: for parts that do not work together: a rule that is not causal in a causal
            block, the packed path with a block that needs every position, truncated backprop with
            a rule whose gain reads the state before the cut, backprop through the last steps where
            depth is not fixed or earlier steps are trained too, a rule of another width; and for
            max_steps that is no whole number of 1 or more.
    """

    def __init__(
        self,
        block: LoopBlock,
        rule: HaltingRule,
        readout: Readout | None = None,
        *,
        max_steps: int,
        path: LoopPath | None = None,
        backprop: Backprop | None = None,
    ):
        super().__init__()
        check_max_steps(max_steps)
        check_pairing(block, rule, path)
        self.block = block
        self.rule = rule
        self.readout = readout or rule.default_readout()
        if backprop is not None:
            check_truncation(backprop, rule, self.readout, max_steps)
        self.max_steps = max_steps
        self.path: LoopPath = path or ("packed" if block.packable else "dense")
        self.backprop = backprop or Backprop()
        self.head: Head | None = None
        self.keep_going: Callable[[int], bool] = bool
        self.draw = draw_uniform
        self._first_look = FirstLook()
        self._rule_calls = RuleCalls()

    def use(self, rule: HaltingRule, readout: Readout | None = None) -> None:
        """Replaces the rule, and the readout (the rule's default if None), for evaluation.

        Raises:
            UsageError: for a rule that is not causal in a causal block, or of another width.
        """
        check_pairing(self.block, rule, self.path)
        self._rule_calls = RuleCalls()
        self.rule = rule
        self.readout = readout or rule.default_readout()

    def packs(self, tokens: int) -> bool:
        """Whether a run over this many tokens takes the packed path."""
        if self.path != "auto":
            return self.path == "packed"
        width = getattr(self.block, "dim", PACKING_PAYS_FROM)
        pays = not torch.is_grad_enabled() or tokens * width >= PACKING_PAYS_FROM
        return self.block.packable and pays

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
        *,
        max_steps: int | None = None,
        cache: KeyValueCache | None = None,
        positions: Int[Tensor, "B L"] | None = None,
        record_lens: bool = False,
        context: LoopContext = NO_CONTEXT,
    ) -> tuple[Float[Tensor, "B L D"], LoopTrace]:
        """Runs the loop from beginning to end; returns the output [B L D], 0 on padding, and the
        record of the run.

        Args:
            x: what the loop starts from, and what is injected at each step.
            valid: True on real tokens; None when all are.
            max_steps: another limit for this call, also beyond the one trained with.
            cache: to read and write keys and values in (decoding); a fresh one unless given.
            positions: where each token stands in that cache, ascending in each row; 0 .. L − 1
                unless given.
            record_lens: keep in the trace what the readout would have been had each token stopped
                at each step.
            context: what the block reads at every step beside the states.

        Raises:
            UsageError: for max_steps below 1 or beyond the room of the cache, for a `valid` of
                another shape or dtype, for a context that the block does not read, for a block that
            mixes the sequences of a batch, and a rule that returns what the loop cannot go by.
        """
        state = self.begin(
            x,
            valid,
            max_steps=max_steps,
            cache=cache,
            positions=positions,
            record_lens=record_lens,
            context=context,
        )
        while not state.at_limit:
            go_on = self.keep_going(state.active)
            if not go_on and state.num_steps > 0:
                break
            state = self.step(state)
        return self.finish(state)

    def begin(
        self,
        x: Float[Tensor, "B L D"],
        valid: Bool[Tensor, "B L"] | None = None,
        *,
        max_steps: int | None = None,
        cache: KeyValueCache | None = None,
        positions: Int[Tensor, "B L"] | None = None,
        record_lens: bool = False,
        context: LoopContext = NO_CONTEXT,
    ) -> LoopState:
        """The run before its first step. Arguments and errors are those of `forward`, which is the
        loop over `begin`, `step` and `finish`.

        Engines that gather or sum parameters do so around a call of the module: under DeepSpeed,
        call `forward`, and override it for a loop of your own (docs/manual_stepping.md).
        """
        check_transforms(x, self.parameters)
        limit = self.max_steps if max_steps is None else max_steps
        check_max_steps(limit, cache)
        check_valid(valid, *x.shape[:2])
        context.check(x.shape[0], self.block.reads_context, type(self.block).__name__)
        self._first_look.at(self.block, x, context)
        slots = Slots.everywhere(x, positions) if valid is None else Slots.of(valid, positions)
        packs = self.packs(len(slots))
        run = LoopRun(
            x=x,
            context=context,
            limit=limit,
            # Before that step nobody leaves, so nobody has to be asked.
            fixed_depth=self.rule.fixed_depth(limit) or 0,
            packs=packs,
            record_lens=record_lens,
        )
        state = slots.take(x)  # [A D]
        remaining = torch.ones(len(slots), dtype=halting_dtype(x.dtype), device=x.device)  # [A]
        total = self.readout.begin(state)
        view = self._view(slots, limit, state, state, remaining, total)
        memory, gain = self._rule_calls.begin(self.rule, view)
        return LoopState(
            run=run,
            num_steps=0,
            slots=slots,
            state=state,
            inputs=state,
            remaining=remaining,
            total=total,
            gain=gain,
            memory=memory,
            cache=cache or self._fresh_cache(slots, valid, packs),
            frozen=None if self.block.packable else place(state, slots, dense_slots(slots)),
            ends=(),
            recorder=TraceRecorder(slots, remaining.dtype),
        )

    def step(self, state: LoopState) -> LoopState:
        """The run one step later: the block computes the active tokens, the rule decides, and those
        who leave are read out.

        The state that it was given is used up: its cache and its record are written on.

        Raises:
            UsageError: for a run that is at its limit, a state from which a step was taken already,
                and an auxiliary loss of another shape than [A].
        """
        state.check_can_step()
        run = state.run
        number = state.num_steps + 1
        last_step = number >= run.limit
        state = self._cut_gradient(state, number)
        slots = state.slots

        block_step = self._block_step(state)
        made = block_step.state  # [A D]
        if state.gain is not None:
            # [A 1] times [A D]
            made = state.state + state.gain.unsqueeze(-1).to(made.dtype) * (made - state.state)
        view = self._view(slots, run.limit, block_step.entering, made, state.remaining, state.total)
        decision, memory = self._rule_calls.decide(self.rule, view, state.memory, number)
        mass, remaining, leaves = settle(decision, state.remaining, last_step)  # [A] each
        self._record(state, made, mass, decision, block_step.aux_loss)
        total = self.readout.add(state.total, made, mass, decision.aux)

        after = replace(
            state,
            num_steps=number,
            state=made,
            remaining=remaining,
            total=total,
            gain=decision.gain,
            memory=memory,
            cache=block_step.cache,
        )
        if number >= run.fixed_depth:
            after = self._let_leave(after, leaves)
        return replace(after, slots=after.slots.next_step())

    def finish(self, state: LoopState) -> tuple[Float[Tensor, "B L D"], LoopTrace]:
        """The output [B L D] of a run, and its record. Tokens that are still active put out 0 and
        keep the mass that they hold.

        Raises:
            UsageError: for a run that has taken no step, and for a state from which a step was
                taken.
        """
        check_can_finish(state)
        # A rank whose tokens have all left runs further steps on zero rows, which no output depends
        # on. If the block is collective, its backward must still pass through those steps.
        ends = (*state.ends, state.state) if self.block.collective else ()
        context = state.run.context.given.values()
        anchors = [*self.parameters(), state.run.x, *context, *ends]
        recorder = state.recorder
        return attach_zero_gradients(recorder.output(state.run.x), recorder.trace(), anchors)

    def _cut_gradient(self, state: LoopState, number: int) -> LoopState:
        """Truncated backprop: the state before step `number`, detached where the scheme cuts."""
        if not self.backprop.cuts_before(number, state.run.fixed_depth or state.run.limit):
            return state
        return replace(
            state,
            ends=(*state.ends, state.state) if self.block.collective else (),
            state=state.state.detach(),
            cache=state.cache.detach(),
            frozen=None if state.frozen is None else state.frozen.detach(),
        )

    def _block_step(self, state: LoopState) -> BlockStep:
        """What the block makes of the active tokens, [A ...] each. The two paths differ here alone:
        in the slots that are computed."""
        slots = state.slots
        chosen = packed_slots(slots) if state.run.packs else dense_slots(slots)
        before = place(state.state, slots, chosen, state.frozen)
        inputs = place(state.inputs, slots, chosen)
        made = self.backprop.run(
            self.block.step, before, inputs, chosen, state.cache, state.run.context
        )
        check_aux_loss(made.aux_loss, len(chosen), state, self.block)
        return BlockStep(
            entering=pick(made.entering, slots, chosen),
            state=pick(made.state, slots, chosen),
            cache=made.cache,
            aux_loss=None if made.aux_loss is None else pick(made.aux_loss, slots, chosen),
        )

    def _record(
        self,
        state: LoopState,
        made: Tensor,
        mass: Tensor,
        decision: StepDecision,
        aux_loss: Tensor | None,
    ) -> None:
        """Writes down the step that led from `state` to the states `made` [A D]."""
        recorder = state.recorder
        recorder.record(state.slots, mass, decision)
        if self.readout.keeps_states and torch.is_grad_enabled():
            recorder.states.append(made)
        if state.run.record_lens:
            stopped = self.readout.if_stopped(state.total, made, state.remaining, decision.aux)
            recorder.lens.append(stopped)
        if aux_loss is not None:
            recorder.block_loss.append(self.block.aux_weight * aux_loss.to(mass.dtype))

    def _let_leave(self, state: LoopState, leaves: Bool[Tensor, " A"]) -> LoopState:
        """Reads out the tokens that leave, and keeps the rows of those who stay."""
        slots = state.slots
        partition = partition_slots(slots, leaves)
        if partition is None:
            return state
        out = partition.out
        index = slots.index[out]
        left = state.state[out]
        state.recorder.leave(index, self.readout.finish(keep_rows(state.total, out), left))
        if state.frozen is not None:
            frozen = state.frozen.index_copy(0, index, left.to(state.frozen.dtype))
            state = replace(state, frozen=frozen)
        return state.keep(partition)

    def _fresh_cache(self, slots: Slots, valid: Tensor | None, packs: bool) -> KeyValueCache:
        visible = None if slots.full else valid
        if not torch.is_grad_enabled():
            return InPlaceCache(visible, slots.batch, slots.length)
        rewinds = packs and RewindingCache.available() and not transforming()
        if rewinds and not self.backprop.recomputes:
            return RewindingCache(visible)
        return FunctionalCache(visible)

    def _view(
        self,
        slots: Slots,
        limit: int,
        entering: Tensor,
        state: Tensor,
        remaining: Tensor,
        total: Tensor | None,
    ) -> StepView:
        device = state.device.type
        outer = {
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }

        def logits(aux: Mapping[str, Tensor] | None = None) -> Tensor:
            assert self.head is not None, "a rule that reads logits needs a model with a head"
            with torch.autocast(device, **outer):
                return self.head(self.readout.if_stopped(total, state, remaining, aux or {}))

        return StepView(
            slots.step,
            limit,
            entering,
            state,
            remaining,
            slots.row,
            slots.position,
            logits,
            lambda: self.draw(slots),
        )
