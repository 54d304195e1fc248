"""Accuracy against steps of a run under another exit."""

from training.evaluation.evaluate import evaluate
from training.evaluation.tally import Tally
from training.evaluation.text_losses import TextLosses
from training.exits.exit import Exit
from training.runs.loaded import Run


def evaluate_exit(
    run: Run,
    exit_policy: Exit,
    split: str,
    num_examples: int,
    batch_size: int,
    text: TextLosses | None = None,
) -> Tally:
    """The counts of a run under another exit; `text` is told the losses of each target."""
    with exit_policy.applied_to(run):
        limit = exit_policy.limit(run)
        return evaluate(run, run.task, split, num_examples, batch_size, max_steps=limit, text=text)
