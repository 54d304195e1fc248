"""What cannot work in a loop, refused before it runs."""

from torch import Tensor

from act.blocks.block import LoopBlock
from act.caches.cache import KeyValueCache
from act.loop.backprop import Backprop
from act.loop.rule_checks import check_width
from act.loop.state import LoopState
from act.slots import LoopPath
from halting.counts import is_count
from halting.errors import UsageError
from halting.readout import Readout
from halting.rule import HaltingRule


def check_max_steps(max_steps: object, cache: KeyValueCache | None = None) -> None:
    if not is_count(max_steps):
        raise UsageError(
            f"max_steps is {max_steps!r}.",
            "It counts steps, and a token must take at least one to have a state to read.",
            "Use a whole number, 1 or more.",
        )
    if cache is not None and cache.max_steps is not None and int(max_steps) > cache.max_steps:
        raise UsageError(
            f"max_steps is {max_steps}, but the {type(cache).__name__} was made for "
            f"{cache.max_steps} steps.",
            "It keeps the keys and values of every step apart, and has no room for later ones.",
            f"Make the cache for {max_steps} steps, or use max_steps={cache.max_steps} or less.",
        )


def check_pairing(block: LoopBlock, rule: HaltingRule, path: LoopPath | None) -> None:
    if block.causal and not rule.causal:
        raise UsageError(
            f"{type(rule).__name__} cannot decide in a causal model.",
            "It looks at the whole sequence, so a token's exit would depend on tokens that come "
            "after it.",
            "Use a causal rule such as GravesACT, or make the model bidirectional.",
        )
    check_width(rule, getattr(block, "dim", None))
    if path == "packed" and not block.packable:
        raise UsageError(
            f"{type(block).__name__} cannot run on the packed path.",
            "It computes every position at once and keeps no keys and values of tokens that "
            "halted.",
            'Leave path out, or pass path="dense"; use act.Block where compute should '
            "follow the halting.",
        )


def check_truncation(
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


def check_aux_loss(
    aux_loss: Tensor | None, num_slots: int, state: LoopState, block: LoopBlock
) -> None:
    """Refuses an auxiliary loss that is not one number a slot, or that only some steps have."""
    name = type(block).__name__
    if aux_loss is not None and aux_loss.shape != (num_slots,):
        raise UsageError(
            f"{name} handed on an auxiliary loss of shape {tuple(aux_loss.shape)}, for "
            f"{num_slots} slots.",
            "Each token has its own, so that padding and halted tokens cost nothing and the mean "
            "is over the tokens of all ranks.",
            f"Hand on a tensor of shape ({num_slots},): spread what belongs to a batch over its "
            "tokens.",
        )
    if state.num_steps and (aux_loss is None) == bool(state.recorder.block_loss):
        raise UsageError(
            f"{name} has an auxiliary loss at some steps only.",
            "The trace holds one number for each executed step of each token.",
            "Hand on zeros where there is none.",
        )


def check_can_finish(state: LoopState) -> None:
    """Refuses to end a run that has no step, or that went on from here."""
    if state.num_steps == 0:
        raise UsageError(
            "This run has taken no step.",
            "No token has a state to read.",
            "Take one: state = recurrence.step(state).",
        )
    if state.num_steps != state.recorder.num_steps:
        raise UsageError(
            f"This state is after {state.num_steps} steps, and the run went on from it.",
            f"Its record is after {state.recorder.num_steps} steps by now.",
            "Finish the state that the last step returned.",
        )
