"""Two ponder maps of the same examples: where they differ in steps and in answers."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from halting.errors import UsageError
from halting.maps.estimate import Estimate, mean_of, share_of
from halting.maps.ponder_map import PonderMap


@dataclass(frozen=True)
class Comparison:
    """The second map against the first; intervals over resampled sequences.

    Args:
        steps: executed steps a token, second − first.
        longer, shorter: the share of tokens that took more, and fewer, steps in the second.
        agreement: Spearman's rank correlation of the steps; None where either never varies.
        answers: the share of tokens that got another answer; undefined where either kept none.
        only_first, only_second: of the tokens with a target, the share that is right in one alone.
        both, neither: right in both, in none.
    """

    steps: Estimate
    longer: Estimate
    shorter: Estimate
    agreement: float | None
    answers: Estimate
    only_first: Estimate
    only_second: Estimate
    both: Estimate
    neither: Estimate

    def values(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def compare(first: PonderMap, second: PonderMap) -> Comparison:
    """How the second differs from the first.

    Raises:
        UsageError: for maps of other examples.
    """
    check_same_examples(first, second)
    valid = first.valid
    apart = second.steps.astype(int) - first.steps
    both_answer = first.final_prediction is not None and second.final_prediction is not None
    answered = valid if both_answer else np.zeros_like(valid)
    differs = first.final_prediction != second.final_prediction if both_answer else answered
    has_target = first.has_target & answered
    right = (first.correct, second.correct)
    return Comparison(
        steps=mean_of(apart, valid),
        longer=share_of(apart > 0, valid),
        shorter=share_of(apart < 0, valid),
        agreement=_agreement(first.steps[valid], second.steps[valid]),
        answers=share_of(np.asarray(differs), answered),
        only_first=share_of(right[0] & ~right[1], has_target),
        only_second=share_of(right[1] & ~right[0], has_target),
        both=share_of(right[0] & right[1], has_target),
        neither=share_of(~right[0] & ~right[1], has_target),
    )


def check_same_examples(first: PonderMap, second: PonderMap) -> None:
    """Raises UsageError where the maps are not of the same tokens and targets."""
    same = np.array_equal(first.tokens, second.tokens) and np.array_equal(first.valid, second.valid)
    if first.targets is not None and second.targets is not None:
        same = same and np.array_equal(first.targets, second.targets)
    if not same:
        names = [str(each.metadata.get("run", "a run")) for each in (first, second)]
        raise UsageError(
            f"The maps of {names[0]} and {names[1]} are of other examples.",
            "They are compared token by token.",
            "Make both of the same batch.",
        )


def _agreement(first: np.ndarray, second: np.ndarray) -> float | None:
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    from scipy import stats  # here, because it is slow to import

    return float(stats.spearmanr(first, second)[0])  # pyright: ignore[reportArgumentType]
