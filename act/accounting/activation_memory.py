"""The activations of a backward pass, as an estimate. (`training.resources.zero_memory` has the
rest of a rank.)"""

from torch import nn

from act.accounting.counted import counted_block_numbers, counted_pass_numbers
from act.layers.saved_numbers import SavedNumbers
from act.models.asked_losses import AnswerHead
from act.models.looped_model import LoopedModel, OutsideNumbers

_FLOAT = 4
_HALF = 2
_TRACE = 12  # numbers a token and step: mass, score, what remains, place and step


def activation_bytes(
    model: LoopedModel,
    tokens: int,
    steps: int,
    *,
    checkpointed: bool = False,
    bf16: bool = False,
    stage: int = 0,
    losses: bool = False,
) -> int:
    """Bytes that autograd keeps between a forward pass and its backward pass: an estimate.

    It counts what the layers save for their gradients, with no token halting before `steps` and
    attention that does not keep its L × L matrix. Fewer steps, shorter rows and fused kernels need
    less; batches with padding need up to one copy of the keys and values more each step.

    Args:
        model: any looped model; its parameters may be on the meta device where it and its block
            say what they keep (`saved_numbers`, `outside_numbers`), else it is counted.
        tokens: B · L of one forward pass, padding included.
        steps: how many steps every token takes.
        checkpointed: keep each step's input alone, for no token halts; one step at a time is
            computed again.
        bf16: under autocast; the bfloat16 copies of the weights are then counted as well.
        stage: the ZeRO stage, on which the number of those copies depends.
        losses: the model is asked for losses instead of logits (`act.models.asked_losses`). Kept
            are the gradients of the states that the head reads, and once that of its weight; a
            model that gives logits always is counted with them.
    """
    keeps_states = model.recurrence.readout.keeps_states
    outside = model.outside_numbers() or _counted(model, bf16)
    around = SavedNumbers(wide=model.width + _TRACE)
    looped = _block_numbers(model, bf16) + around
    kept = around.times(steps) + looped if checkpointed else looped.times(steps)
    kept = kept + outside.before + outside.after
    asked = outside.losses if losses else None
    fused = asked is not None
    head = outside.head if asked is None else asked
    if not (fused and keeps_states):  # of losses each step has its own, and the output none
        kept = kept + head
    if keeps_states:
        answer = head + outside.after + SavedNumbers(wide=model.width)
        kept = kept + answer.times(steps)
    once = _FLOAT * outside.losses_once if fused else 0
    copies = _copied(model, 1 if checkpointed else steps, stage, fused) if bf16 else 0
    return tokens * kept.bytes(bf16) + once + _HALF * copies


def _block_numbers(model: LoopedModel, bf16: bool) -> SavedNumbers:
    block = model.recurrence.block
    return block.saved_numbers() or counted_block_numbers(block, model.width, bf16)


def _counted(model: LoopedModel, bf16: bool) -> OutsideNumbers:
    """Of a model that says nothing of itself; what is after the loop counts as before it."""
    whole = counted_pass_numbers(model, False, bf16)
    head = max(0, counted_pass_numbers(model, True, bf16).wide - whole.wide)
    block = _block_numbers(model, bf16).bytes(bf16) // _FLOAT
    answers = 1 + model.recurrence.readout.keeps_states
    before = max(0, whole.wide - block - model.width - _TRACE - answers * head)
    return OutsideNumbers(SavedNumbers(before), SavedNumbers(), SavedNumbers(head))


def _copied(model: LoopedModel, steps: int, stage: int, fused: bool) -> int:
    """Weights that autograd keeps in bfloat16. Autocast makes one copy of each; of the loop's one
    at each step under ZeRO-1 and 2, where it does not know the views that the loop is given
    (`engine.together`). Under ZeRO-3 DeepSpeed's own linear layer keeps none, nor does a
    head that is asked for losses."""
    linear = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and not (fused and isinstance(module, AnswerHead))
    ]
    everything = sum(module.weight.numel() for module in linear)
    looped = sum(
        module.weight.numel()
        for module in model.recurrence.modules()
        if isinstance(module, nn.Linear)
    )
    return 0 if stage == 3 else everything + (looped * (steps - 1) if stage in (1, 2) else 0)
