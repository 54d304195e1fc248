"""Evaluation: figures over unseen examples, and ponder maps of a few."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from act.models.asked_losses import AskedLosses, is_large
from act.models.looped_model import LoopedModel, ModelOutput
from training.distributed import collectives
from training.distributed.last_sign import LAST_SIGN
from training.distributed.stop_request import StopRequest
from training.evaluation.tally import Tally
from training.evaluation.text_losses import TextLosses
from training.tasks.task import Batch, Task

_SURE = 0.0025  # of the mean ponder
_MOST = 32  # times the examples of an evaluation


class EvaluationStopped(Exception):
    """Somebody asked to stop while an evaluation was under way; it has changed nothing."""


class Diverged(Exception):
    """A model's answers are not finite."""


class Runner(Protocol):
    """What runs a model: an engine, or a run read back."""

    @property
    def model(self) -> LoopedModel: ...

    @property
    def device(self) -> torch.device: ...

    def forward(
        self,
        batch: Batch,
        record_lens: bool = False,
        max_steps: int | None = None,
        asked: AskedLosses | None = None,
    ) -> ModelOutput:
        """The model's output for a batch on its device."""
        ...


def rank_starts(num_examples: int, batch_size: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """The first example and the size of each of this rank's batches of `num_examples` examples from
    `start` on, rounded up so that every rank gets as many batches of one size: a forward under
    ZeRO-3 is something that all ranks do together."""
    ranks = collectives.world_size()
    size = max(1, min(batch_size, -(-num_examples // ranks)))
    for number in range(-(-num_examples // (size * ranks))):
        yield start + (number * ranks + collectives.rank()) * size, size


def rank_batches(
    task: Task, split: str, num_examples: int, batch_size: int, start: int = 0
) -> Iterator[Batch]:
    """This rank's batches, as `rank_starts` has them."""
    for first, size in rank_starts(num_examples, batch_size, start):
        yield task.batch(split, first, size)


@torch.no_grad()
def evaluate(
    runner: Runner,
    task: Task,
    split: str,
    num_examples: int,
    batch_size: int,
    max_steps: int | None = None,
    request: StopRequest | None = None,
    start: int = 0,
    text: TextLosses | None = None,
) -> Tally:
    """The counts over examples of a split, summed over ranks, in evaluation mode.

    Args:
        runner: runs the model; an engine or a run.
        task: makes the examples.
        split: "validation" or "test".
        num_examples: how many, rounded up to whole batches.
        batch_size: the most examples a rank computes at once.
        max_steps: another step limit.
        request: looked at after each batch; None: it goes to its end.
        start: the first example.
        text: is told this rank's losses of each target.

    Raises:
        EvaluationStopped: on all ranks, once the request of any is asked.
    """
    recurrence = runner.model.recurrence
    devices = [runner.device] if runner.device.type == "cuda" else []
    was_training = runner.model.training
    runner.model.eval()
    tally = Tally(max_steps or recurrence.max_steps)
    answers = min(batch_size, num_examples) * task.max_length
    with torch.random.fork_rng(
        devices=devices
    ):  # a rule that draws must not change what training draws next
        torch.manual_seed(0)
        for first, size in rank_starts(num_examples, batch_size, start):
            batch = task.batch(split, first, size).to(runner.device)
            asked = AskedLosses(batch.targets) if is_large(answers, task.vocab_size) else None
            output = runner.forward(batch, max_steps=max_steps, asked=asked)
            target_bytes = task.target_bytes(split, batch.targets)
            tally.add(output, batch, recurrence.rule, target_bytes)
            if text is not None:
                text.add(output, batch, first)
            LAST_SIGN.mark(f"evaluating on the {split} split")
            if request is not None and collectives.any_rank(request.asked, runner.device):
                runner.model.train(was_training)
                raise EvaluationStopped
    runner.model.train(was_training)
    return tally.over_ranks(runner.device)


def evaluate_surely(
    runner: Runner,
    task: Task,
    examples: int,
    batch_size: int,
    start: int,
    decided: Callable[[Tally], bool] = lambda tally: False,
) -> tuple[Tally, int]:
    """The counts over as many validation examples as tell the mean ponder to a quarter of a per
    cent (its standard error): those of an evaluation, and doubled until they do, to 32 times as
    many at most. Called by all ranks, which are told the same.

    Args:
        runner, task, batch_size: as `evaluate` takes them.
        examples: of an evaluation.
        start: the first one.
        decided: whether counts that are less sure tell enough.

    Returns:
        the counts, and of how many examples.
    """
    number = examples
    tally = evaluate(runner, task, "validation", number, batch_size, start=start)
    while number < _MOST * examples and not decided(tally):
        if tally.ponder_error() <= _SURE * tally.figures()["mean_ponder"]:
            break
        more = evaluate(runner, task, "validation", number, batch_size, start=start + number)
        tally = tally.plus(more)
        number *= 2
    return tally, number
