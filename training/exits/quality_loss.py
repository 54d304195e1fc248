"""What a sequence loses by leaving early, against the same model at full depth: a number in [0,
1]."""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from training.exits.answers import Answers

QualityLoss = Literal["lost", "changed", "nats"]
LOSSES: tuple[QualityLoss, ...] = get_args(QualityLoss)
IN_WORDS: dict[QualityLoss, str] = {
    "lost": "share of a sequence's answers that are right at full depth and wrong at the exit",
    "changed": "share of a sequence's answers that are not those of full depth",
    "nats": "nats an answer by which the loss lies above that of full depth, at most 1",
}


def quality_loss(
    kind: QualityLoss,
    early: "Answers",
    full: "Answers",
    targets: Int[np.ndarray, "S L"],
    asked: Bool[np.ndarray, "S L"],
) -> Float[np.ndarray, " n"]:
    """[n] what each sequence loses, of the n of S sequences that have a target.

    - "lost": the share of its answers that are right at full depth and wrong at the exit. Answers
      that leaving early puts right don't count, so the accuracy (the mean over sequences of the
      share of right answers) is lower than at full depth by at most its expectation.
    - "changed": the share of its answers that differ from those of full depth, which needs no right
      answers (CALM's textual consistency, token by token). Never less than "lost".
    - "nats": the mean excess of the loss over that of full depth, cut off at 0 and at 1 nat: a
      bound needs losses that are bounded. Where sequences gain, or lose more than a nat, it is not
      the difference of the mean losses.

    Args:
        kind: which.
        early: under the exit.
        full: at full depth, of the same sequences.
        targets: the right answers.
        asked: where there is one.
    """
    counts = asked.sum(1)
    if kind == "nats":
        lost = np.where(asked, early.nats - full.nats, 0.0)
    elif kind == "changed":
        lost = asked & (early.predictions != full.predictions)
    else:
        lost = asked & (full.predictions == targets) & (early.predictions != targets)
    has = counts > 0
    return np.clip(lost.sum(1)[has] / counts[has], 0.0, 1.0)
