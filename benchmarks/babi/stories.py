"""What a trained run does with test stories."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.rows import Row
from training.runs.loaded import load_run

MOST_FACTS = 3
"""Questions of tasks 7 and 8 that need more are counted together with those of three."""
_EXAMPLES = 2048
_AT_ONCE = 64


def measure(homes: list[Path]) -> Row:
    """What the trained run does with test stories."""
    run = load_run(homes[-1])
    parts = []
    for start in range(0, _EXAMPLES, _AT_ONCE):
        batch = run.task.batch("test", start, _AT_ONCE)
        output = run.forward(batch)
        ponder = run.model.recurrence.rule.ponder(output.trace)
        last = batch.valid.sum(1, keepdim=True) - 1
        right = output.logits.argmax(-1).gather(1, last) == batch.targets.gather(1, last)
        valid = batch.valid
        columns = (
            batch.difficulty[:, 0].clamp(max=MOST_FACTS),
            valid.sum(1),
            (ponder * valid).sum(1),
            (ponder**2 * valid).sum(1),
            ponder.gather(1, last)[:, 0],
            right[:, 0],
        )
        parts.append(np.stack([column.double().numpy() for column in columns]))
    return stories(np.concatenate(parts, 1))


def stories(columns: NDArray[np.float64]) -> Row:
    """The figures of test stories.

    Args:
        columns: [6 S]: supporting facts, positions, the sum over them of ponder and of its square,
            the ponder of the question, and whether the answer is right.
    """
    facts, length, total, squares, question, right = columns
    by_facts = {}
    for number in np.unique(facts):
        mine = facts == number
        positions = length[mine].sum()
        mean = float(total[mine].sum() / positions)
        by_facts[str(int(number))] = {
            "questions": int(mine.sum()),
            "ponder": mean,
            "deviation": float(np.sqrt(max(squares[mine].sum() / positions - mean**2, 0.0))),
            "ponder_of_question": float(question[mine].mean()),
            "length": float(length[mine].mean()),
            "accuracy": float(right[mine].mean()),
        }
    mean = total / length
    return {
        "by_facts": by_facts,
        "accuracy": float(right.mean()),
        "spearman": rank_correlation(facts, mean),
        "spearman_of_question": rank_correlation(facts, question),
        "spearman_at_equal_length": partial_correlation(facts, mean, length),
        "spearman_of_question_at_equal_length": partial_correlation(facts, question, length),
    }


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Spearman's; None where one of them never varies."""
    from scipy import stats

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first, second)[0])  # pyright: ignore[reportArgumentType]


def partial_correlation(
    first: NDArray[Any], second: NDArray[Any], held: NDArray[Any]
) -> float | None:
    """Spearman's, with a third quantity held fixed (the partial correlation of the ranks); None
    where one never varies or the third tells another exactly."""
    pairs = ((first, second), (first, held), (second, held))
    found = [rank_correlation(*pair) for pair in pairs]
    if any(each is None for each in found):
        return None
    apart, of_first, of_second = (float(each) for each in found if each is not None)
    left = (1 - of_first**2) * (1 - of_second**2)
    return (apart - of_first * of_second) / left**0.5 if left > 1e-12 else None
