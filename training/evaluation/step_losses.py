"""The loss of each step: what it would be had no token gone beyond it."""

import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from act.models.asked_losses import AskedLosses
from act.models.looped_model import ModelOutput
from halting.trace import PackedSteps
from training.distributed import collectives
from training.distributed.stop_request import StopRequest
from training.evaluation.evaluate import EvaluationStopped, Runner, rank_batches
from training.objectives.outcomes import token_losses
from training.tasks.task import Task

SHARE = 4
"""An evaluation's examples ÷ those of its losses by step: each step is answered for, so that they
cost more."""
_MOST_LOGITS = 2**27  # of a model that cannot be asked for losses: half a gigabyte of float32


@dataclass(frozen=True)
class StepLosses:
    """The loss had no token gone beyond step n, for n = 1, 2, … N. Tokens that leave before it have
    left: the last is the loss itself, of the same examples.

    Args:
        loss: nats a target, each weighted as the task says.
        bits_per_byte: where targets stand for text; else None.
        examples: of how many.
    """

    loss: list[float]
    bits_per_byte: list[float] | None
    examples: int

    def figures(self) -> dict[str, list[float]]:
        """As metrics.jsonl and summary.json keep them."""
        found = {"loss_by_step": self.loss}
        if self.bits_per_byte is not None:
            found["bits_per_byte_by_step"] = self.bits_per_byte
        return found


@torch.no_grad()
def step_losses(
    runner: Runner,
    task: Task,
    split: str,
    num_examples: int,
    batch_size: int,
    request: StopRequest | None = None,
) -> StepLosses | None:
    """The losses by step over examples of a split, summed over ranks, in evaluation mode: one pass
    of the loop, and the head once for each step; no step's logits stand in memory whole. None for a
    model that does not say what each step would have answered, and for one that cannot be asked for
    losses and mixes tokens after the loop, or has too many logits.

    Args:
        runner: runs the model; an engine or a run.
        task: makes the examples.
        split: "validation" or "test".
        num_examples: the first ones, rounded up to whole batches.
        batch_size: the most examples a rank computes at once.
        request: looked at after each batch; None: it goes to its end.

    Raises:
        EvaluationStopped: on all ranks, once the request of any is asked.
    """
    model = runner.model
    limit = model.recurrence.max_steps
    answers = min(batch_size, num_examples) * task.max_length * limit
    can_be_asked = "asked" in inspect.signature(model.forward).parameters
    too_many = model.mixes_after_loop or answers * task.vocab_size > _MOST_LOGITS
    if not can_be_asked and too_many:
        return None
    devices = [runner.device] if runner.device.type == "cuda" else []
    was_training = model.training
    model.eval()
    sums = torch.zeros(2 * limit + 3, dtype=torch.float64)
    try:
        with torch.random.fork_rng(devices=devices):  # what training draws next stays as it is
            torch.manual_seed(0)
            for batch in rank_batches(task, split, num_examples, batch_size):
                batch = batch.to(runner.device)
                mixes = model.mixes_after_loop
                asked = AskedLosses(batch.targets, of_steps=True, of_left=mixes)
                losses = losses_of_steps(
                    runner.forward(batch, record_lens=True, asked=asked), batch.targets, limit
                )
                if losses is None:
                    return None
                nats = losses.sum((0, 1))
                if batch.loss_weights is not None:
                    losses = losses * batch.loss_weights.double().unsqueeze(-1)
                text = task.target_bytes(split, batch.targets)
                counts = (
                    batch.target_weight,
                    nats.new_zeros(()) if text is None else text.sum().double(),
                    nats.new_tensor(len(batch.tokens)),
                )
                sums += torch.cat((losses.sum((0, 1)), nats, torch.stack(counts))).cpu()
                if request is not None and collectives.any_rank(request.asked, runner.device):
                    raise EvaluationStopped
    finally:
        model.train(was_training)
    whole = collectives.all_reduce_sum(sums.to(runner.device)).cpu()
    weight, text_bytes, examples = whole[2 * limit :].tolist()
    nats_a_byte = whole[limit : 2 * limit] / max(1.0, text_bytes) / math.log(2)
    return StepLosses(
        (whole[:limit] / (weight or 1.0)).tolist(),
        nats_a_byte.tolist() if text_bytes > 0 else None,
        int(examples),
    )


def losses_of_steps(output: ModelOutput, targets: Tensor, limit: int) -> Tensor | None:
    """[B L N] float64: nats of each target had its token not gone beyond step n; 0 where there is
    no target. None where the output does not say.

    Args:
        output: with lenses: `step_logits`, or `answers` of every step.
        targets: [B L].
        limit: N.
    """
    packed: PackedSteps | None
    if output.answers is not None:
        packed, losses = output.answers.steps, output.answers.losses
    else:
        packed = output.step_logits
        if packed is None:
            return None
        losses = token_losses(packed.values, targets.flatten()[packed.index])
    if packed is None:
        return None
    trace = output.trace
    batch, length = targets.shape
    of_steps = packed.unpack(losses.double(), batch, length, trace.num_steps)
    if packed.index.shape[0] == trace.num_steps * int(trace.valid.sum()):  # of all, at all steps
        last = torch.full_like(trace.steps, trace.num_steps - 1).unsqueeze(-1)
    else:
        last = (trace.steps - 1).clamp(min=0).unsqueeze(-1)
    reached = torch.arange(limit, device=last.device).minimum(last)  # [B L N]
    return of_steps.gather(-1, reached)
