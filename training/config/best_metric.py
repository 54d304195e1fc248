"""What evaluations may be judged by, and which way is better."""

from halting.errors import UsageError
from training.config.spelling import did_you_mean

HIGHER_IS_BETTER = {"accuracy": True, "bits": False, "loss": False, "sequence_accuracy": True}
"""The figures of an evaluation by which one model is better than another. (Steps are none of them:
the fewest are those of a rule that has collapsed.)"""


def check_best_by(best_by: str | None, patience: int | None) -> None:
    """Raises UsageError for an unknown metric, and for patience with nothing to judge by."""
    if best_by is not None and best_by not in HIGHER_IS_BETTER:
        raise UsageError(
            f"--best-by {best_by}: there is no metric of this name to judge by.",
            f"Those that there are, each with its direction, are {', '.join(HIGHER_IS_BETTER)}.",
            f"{did_you_mean(best_by, list(HIGHER_IS_BETTER))}Write one of them.",
        )
    if patience is not None and best_by is None:
        raise UsageError(
            f"--patience {patience} comes without --best-by.",
            "A run that ends when it gets no better has to be told what better means.",
            f"Add --best-by, with one of {', '.join(HIGHER_IS_BETTER)}.",
        )
