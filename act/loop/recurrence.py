"""THE loop: one weight-tied block applied again and again until a halting rule lets each token
go."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from act.blocks.block import LoopBlock
from act.caches.cache import FunctionalCache, InPlaceCache, KeyValueCache
from act.caches.rewinding import RewindingCache
from act.loop.backprop import Backprop
from act.loop.recorder import TraceRecorder
from act.loop.zero_gradient import attach_zero_gradient
from act.slots import Slots, check_valid, dense_slots, packed_slots, partition_slots, pick, place
from halting.errors import UsageError
from halting.mass import halting_dtype, settle
from halting.readout import Readout
from halting.rule import HaltingRule
from halting.step import Memory, StepView, keep_rows
from halting.trace import LoopTrace, PackedSteps

T = TypeVar("T")
LoopPath = Literal["auto", "packed", "dense"]
PACKING_PAYS_FROM = 2048
"""Numbers in a batch, tokens times width, below which choosing slots costs a training step as much
as it saves, on a CPU (docs/log.md, `ponder profile`). In inference it pays from the first token
on."""
Head = Callable[[Float[Tensor, "A D"]], Float[Tensor, "A V"]]


def draw_uniform(tokens: Slots) -> Float[Tensor, " A"]:
    """[A] uniform draws in [0, 1), for rules that sample."""
    return torch.rand(len(tokens), device=tokens.index.device)


class Recurrence(nn.Module):
    """Applies a block to every token until its halting rule lets it go, and reads out what it
    passed through.

    The six laws of docs/laws.md are kept here, whatever the rule. The dense path is the definition:
    it runs the block over every position; the packed path computes the active tokens alone and
    gives the same. They differ only in which slots are chosen, so compute follows the halting. One
    module and one ZeRO-3 leaf, called once with gradient per backward.

    Args:
        block: what one step computes.
        rule: who leaves when.
        readout: how a token's states become its output; the rule's default if None.
        max_steps: N ≥ 1, the step limit.
        path: "packed", "dense", or "auto": packed unless the block cannot or the batch is too small
            for it to pay; None for packed where the block can.
        backprop: how gradients go back through the loop.

    Attributes:
        head: gives logits [A V] of readouts [A D], for rules that read logits; set by the model.
        keep_going: told how many tokens are active, says whether to take another step. Where
            something collective lives inside the loop, the ranks of its group agree in it. While
            any token is active it has to say yes: those that it cuts off put out 0 and keep the
            mass that they hold.
        draw: where `view.uniform()` comes from.

    Raises:
        UsageError: for what cannot work: a rule that is not causal in a causal block, the packed
            path with a block that needs every position, truncated backprop with a rule whose gains
            reach around the cut, backprop through the last steps where earlier ones are trained too
            or depth is not fixed, max_steps below 1.
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
        _check_max_steps(max_steps)
        _check_pairing(block, rule, path)
        self.block = block
        self.rule = rule
        self.readout = readout or rule.default_readout()
        if backprop is not None:
            _check_truncation(backprop, rule, self.readout, max_steps)
        self.max_steps = max_steps
        self.path: LoopPath = path or ("packed" if block.packable else "dense")
        self.backprop = backprop or Backprop()
        self.head: Head | None = None
        self.keep_going: Callable[[int], bool] = bool
        self.draw = draw_uniform

    def use(self, rule: HaltingRule, readout: Readout | None = None) -> None:
        """Puts another rule into the loop for evaluation, and another readout: the rule's default
        if None.

        Raises:
            UsageError: for a rule that is not causal in a causal block.
        """
        _check_pairing(self.block, rule, self.path)
        self.rule = rule
        self.readout = readout or rule.default_readout()

    def packs(self, tokens: int) -> bool:
        """Whether a run over so many tokens computes the active ones alone, rather than every
        position."""
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
    ) -> tuple[Float[Tensor, "B L D"], LoopTrace]:
        """The output [B L D], 0 on padding, and the record of the run.

        Args:
            x: what the loop starts from, and what is injected at each step.
            valid: True on real tokens; None when all are.
            max_steps: another limit for this call, also beyond the one trained with.
            cache: to read and write keys and values in (decoding); a fresh one unless given.
            positions: where each token stands in that cache, ascending in each row; 0 .. L − 1
                unless given.
            record_lens: keep in the trace what the readout would have been had each token stopped
                at each step.

        Raises:
            UsageError: for max_steps below 1 or beyond the room of the cache, and for a `valid` of
                another shape or dtype.
        """
        limit = self.max_steps if max_steps is None else max_steps
        _check_max_steps(limit, cache)
        known = (
            self.rule.fixed_depth(limit) or 0
        )  # before that step nobody leaves, so nobody need be asked
        last = known or limit
        check_valid(valid, *x.shape[:2])
        slots = Slots.everywhere(x, positions) if valid is None else Slots.of(valid, positions)
        packs = self.packs(len(slots))
        cache = cache or self._fresh_cache(slots, valid, packs)
        flat = x.flatten(0, 1)
        state = inputs = flat if slots.full else flat.index_select(0, slots.index)
        frozen = None if self.block.packable else place(state, slots, dense_slots(slots))
        remaining = torch.ones(len(slots), dtype=halting_dtype(x.dtype), device=x.device)
        total = self.readout.begin(state)
        memory, gain = _outside_autocast(
            self.rule.begin, self._view(slots, limit, state, state, remaining, total)
        )
        ledger = TraceRecorder(slots, remaining.dtype)
        ends: list[
            Tensor
        ] = []  # of a collective block: states from which a backward passes through every step

        for step in range(1, limit + 1):
            if not (self.keep_going(len(slots)) or step == 1):
                break
            if self.backprop.cuts_before(step, last):
                ends += [state] if self.block.collective else []
                state = state.detach()
                cache = cache.detach()
                frozen = None if frozen is None else frozen.detach()
            chosen = packed_slots(slots) if packs else dense_slots(slots)
            before = place(state, slots, chosen, frozen)
            given = place(inputs, slots, chosen)
            entering, made, cache = self.backprop.run(self.block.step, before, given, chosen, cache)
            entering = pick(entering, slots, chosen)
            made = pick(made, slots, chosen)
            state = (
                made if gain is None else state + gain.unsqueeze(-1).to(made.dtype) * (made - state)
            )

            view = self._view(slots, limit, entering, state, remaining, total)
            decision, memory = _outside_autocast(self.rule.decide, view, memory)
            mass, left, leaves = settle(decision, remaining, step >= limit)
            ledger.record(slots, mass, decision)
            if self.readout.keeps_states and torch.is_grad_enabled():
                ledger.states.append(state)
            if record_lens:
                ledger.lens.append(self.readout.if_stopped(total, state, remaining, decision.aux))
            total = self.readout.add(total, state, mass, decision.aux)
            remaining = left
            gain = decision.gain

            parting = None if step < known else partition_slots(slots, leaves)
            if parting is not None:
                out = parting.out
                ledger.leave(
                    slots.index[out], self.readout.finish(keep_rows(total, out), state[out])
                )
                if frozen is not None:
                    frozen = frozen.index_copy(0, slots.index[out], state[out].to(frozen.dtype))
                slots = parting.slots
                carried = keep_rows((state, inputs, remaining, total, gain, memory), parting.stay)
                state, inputs, remaining, total, gain, memory = carried
            slots = slots.next_step()

        # A rank whose tokens have left goes on without rows, and no output depends on those steps.
        # Where other ranks need it on their way back, it has to take that way too.
        ends += [state] if self.block.collective else []
        return self._tied([*self.parameters(), x, *ends], ledger.output(x), ledger.trace())

    def _fresh_cache(self, slots: Slots, valid: Tensor | None, packs: bool) -> KeyValueCache:
        visible = None if slots.full else valid
        if not torch.is_grad_enabled():
            return InPlaceCache(visible, slots.batch, slots.length)
        return (
            RewindingCache(visible)
            if packs and not self.backprop.recomputes
            else FunctionalCache(visible)
        )

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

    def _tied(
        self, anchors: list[Tensor], output: Tensor, trace: LoopTrace
    ) -> tuple[Tensor, LoopTrace]:
        """Law 6: each differentiable tensor that leaves the loop reaches every parameter and the
        loop's inputs."""

        def tied(packed: PackedSteps | None) -> PackedSteps | None:
            return (
                None
                if packed is None
                else packed._replace(values=attach_zero_gradient(packed.values, anchors))
            )

        return attach_zero_gradient(output, anchors), trace._replace(
            mass=attach_zero_gradient(trace.mass, anchors),
            score=attach_zero_gradient(trace.score, anchors),
            aux={name: attach_zero_gradient(value, anchors) for name, value in trace.aux.items()},
            states=tied(trace.states),
            lens=tied(trace.lens),
        )


def _outside_autocast(method: Callable[..., T], view: StepView, *memory: Memory) -> T:
    """A rule's method, called with autocast off: halting arithmetic is float32 or wider (law 5)."""
    with torch.autocast(view.state.device.type, enabled=False):
        return method(view, *memory)


def _check_max_steps(max_steps: int, cache: KeyValueCache | None = None) -> None:
    if max_steps < 1:
        raise UsageError(
            f"max_steps is {max_steps}.",
            "A token must take at least one step to have a state to read.",
            "Use 1 or more.",
        )
    if cache is not None and cache.max_steps is not None and max_steps > cache.max_steps:
        raise UsageError(
            f"max_steps is {max_steps}, but the {type(cache).__name__} was made for "
            f"{cache.max_steps} steps.",
            "It keeps the keys and values of every step apart, and has no room for later ones.",
            f"Make the cache for {max_steps} steps, or use max_steps={cache.max_steps} or less.",
        )


def _check_pairing(block: LoopBlock, rule: HaltingRule, path: LoopPath | None) -> None:
    if block.causal and not rule.causal:
        raise UsageError(
            f"{type(rule).__name__} cannot decide in a causal model.",
            "It looks at the whole sequence, so a token's exit would depend on tokens that come "
            "after it.",
            "Use a causal rule such as GravesACT, or make the model bidirectional.",
        )
    if path == "packed" and not block.packable:
        raise UsageError(
            f"{type(block).__name__} cannot run on the packed path.",
            "It computes every position at once and keeps no keys and values of tokens that "
            "halted.",
            'Leave path out, or pass path="dense"; use act.Block where compute should '
            "follow the halting.",
        )


def _check_truncation(
    backprop: Backprop, rule: HaltingRule, readout: Readout, max_steps: int
) -> None:
    name = type(rule).__name__
    if backprop.cuts and rule.gain_reads_state:
        raise UsageError(
            f"{backprop} cannot cut the gradient under {name}.",
            "Its gain on the first step after a cut is computed from the state before it, so the "
            "gradient would go back through all steps all the same.",
            "Use full or checkpointed backprop, or another rule.",
        )
    if not backprop.counts_from_last:
        return
    if rule.fixed_depth(max_steps) is None:
        raise UsageError(
            f"{backprop} cannot count from the last step under {name}.",
            "Tokens leave when the rule lets them, so the last step is not known before it comes, "
            "and a token's gradient would depend on who else is in the batch.",
            "Use FixedSteps, or Truncated, which counts from the first step.",
        )
    if readout.keeps_states or rule.spreads_mass:
        raise UsageError(
            f"{backprop} cannot leave out the first steps under {name} with "
            f"{type(readout).__name__}.",
            "Every step is trained there, by a loss of its own or by the mass spent on it, so the "
            "gradient would go back through all of them.",
            "Use FixedSteps with FinalState, or Truncated, which cuts after every few steps.",
        )
