"""Accuracy against steps of a run under another exit."""

from training.evaluation.evaluate import evaluate
from training.evaluation.tally import Tally
from training.exits.exit import Exit
from training.runs.loaded import Run


def evaluate_exit(
    run: Run, exit_policy: Exit, split: str, num_examples: int, batch_size: int
) -> Tally:
    """The counts of a run under another exit."""
    with exit_policy.applied_to(run):
        return evaluate(
            run, run.task, split, num_examples, batch_size, max_steps=exit_policy.limit(run)
        )
