"""The aggregates of a ponder map against figures worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_maps import by_hand, empty, fabricate, fabricate_text
from matplotlib import image

from halting import PonderMap, UsageError
from halting.maps.aggregates import aggregate, settled_at
from halting.maps.estimate import Estimate, mean_of, ratio
from halting.maps.token_types import OTHERS, token_types
from halting.maps.viewers.picture import aggregates as picture_aggregates


def test_figures_counted_by_hand() -> None:
    found = aggregate(by_hand())
    assert (found.steps.value, found.ponder.value, found.accuracy.value) == (
        2.5,
        1.25,
        pytest.approx(2 / 3),
    )
    told = {
        by: [(g.name, g.steps.value, g.ponder.value, g.tokens, g.sequences) for g in gs]
        for by, gs in found.by.items()
    }
    assert told == {
        "difficulty": [("0", 1.5, 0.75, 2, 2), ("2", 3.5, 1.75, 2, 1)],
        "type": [("a", 2.5, 1.25, 2, 1), ("b", 2.5, 1.25, 2, 2)],
        "position": [("0", 1.5, 0.75, 2, 2), ("1", 3, 1.5, 1, 1), ("2", 4, 2, 1, 1)],
        "correctness": [("right", 2, 1, 2, 1), ("wrong", 2, 1, 1, 1), ("no target", 4, 2, 1, 1)],
    }
    json.dumps(found.values(), allow_nan=False)


def test_compute_in_vain_and_left_too_early_counted_by_hand() -> None:
    assert settled_at(by_hand()).tolist() == [[1, 2, 4], [2, 0, 0]]
    found = aggregate(by_hand())
    assert (
        found.overthinking is not None
        and found.degraded is not None
        and found.still_improving is not None
    )
    assert found.overthinking.compute.value == pytest.approx(1 / 10), (
        "of 10 steps, the second token's third"
    )
    assert found.overthinking.tokens.value == pytest.approx(1 / 4)
    # Among the asked 1 + 3 + 2 steps: the last token's two, wrong at the end, right before, its
    # chance rising.
    assert (
        found.degraded.compute.value == found.still_improving.compute.value == pytest.approx(2 / 6)
    )
    assert found.degraded.tokens.value == pytest.approx(1 / 3)
    assert found.right_if_deeper is None
    right_at_last = replace(by_hand(), final_prediction=np.full((2, 3), 5))
    deeper = aggregate(by_hand(), right_at_last).right_if_deeper
    assert deeper is not None and deeper.compute.value == pytest.approx(2 / 6)
    with pytest.raises(UsageError, match="other examples"):
        aggregate(by_hand(), replace(by_hand(), tokens=np.zeros((2, 3), int)))


def test_calibration_counted_by_hand() -> None:
    found = aggregate(by_hand()).calibration
    score = found[
        "score"
    ]  # asked: 1/4 right; 1/4 wrong, 2/4 right, 3/4 right; 1/4 right, 2/4 wrong
    assert [(each.score, each.right.value, each.entries) for each in score.bins] == [
        (0.25, pytest.approx(2 / 3), 3),
        (0.5, 0.5, 2),
        (0.75, 1, 1),
    ]
    # Pairs of a right (¼ ½ ¾ ¼) and a wrong entry (¼ ½): 0.5 + 0, 1 + 0.5, 1 + 1, 0.5 + 0, of 8.
    assert score.auroc == pytest.approx(4.5 / 8) and score.error is None
    sure = found["confidence"]
    assert [(each.score, each.entries) for each in sure.bins] == [(0.75, 3)]
    assert sure.error == pytest.approx(0.75 - 2 / 3) and sure.auroc == 0.5


def test_whole_sequences_are_resampled() -> None:
    """Tokens that say what their neighbour says narrow no interval."""
    rare = np.random.default_rng(1).integers(1, 9, (40, 1)).astype(float)
    alone, repeated = (mean_of(np.tile(rare, n), np.ones((40, n), bool)) for n in (1, 25))
    assert alone == repeated
    shuffled = np.random.default_rng(2).permuted(np.tile(rare, 25).flatten()).reshape(40, 25)
    narrow = mean_of(shuffled, np.ones((40, 25), bool))
    assert None not in (alone.high, alone.low, narrow.high, narrow.low)
    assert (narrow.high - narrow.low) < (alone.high - alone.low) / 3  # pyright: ignore[reportOptionalOperand]


def test_intervals_hold_what_theory_says() -> None:
    """For many sequences of one token each, the percentile interval is mean ± 1.96 standard errors;
    a thousand resamples place each end to 0.085 standard errors, and three times that is
    allowed."""
    values = np.random.default_rng(3).normal(5, 2, (2000, 1))
    found = mean_of(values, np.ones((2000, 1), bool))
    error = values.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_where_there_is_nothing_to_average() -> None:
    assert ratio(np.zeros(3), np.zeros(3)) == Estimate(None)
    assert ratio(np.array([3.0, 0]), np.array([2.0, 0])) == Estimate(1.5), (
        "one sequence has no interval"
    )
    assert (f"{Estimate(None):.2f}", f"{Estimate(1.5):.2f}", f"{Estimate(1, 0.5, 2):.1f}") == (
        "–",
        "1.50",
        "1.0 [0.5, 2.0]",
    )
    nothing = aggregate(empty(2, 3))
    assert nothing.steps.value is None and all(not groups for groups in nothing.by.values())


@pytest.mark.parametrize(
    ("texts", "types"),
    [
        (["b", "a", "b"], ["b", "a", "b"]),
        (
            [*map(str, range(30)), " the", "a1", "\n", " "],
            [*["digits"] * 30, "letters", "mixed", "line breaks", "spaces"],
        ),
        ([*map(str, range(30)), *["7"] * 3], [*map(str, range(23)), *[OTHERS] * 7, *["7"] * 3]),
    ],
    ids=["few", "kinds", "frequent"],
)
def test_types_of_tokens(texts: list[str], types: list[str]) -> None:
    assert token_types(texts) == types


@pytest.mark.parametrize(
    "found",
    [fabricate(12, 30), fabricate_text("def f(x):\n\treturn x + 1"), empty(1, 2)],
    ids=["usual", "text", "empty"],
)
def test_pictures(tmp_path: Path, found: PonderMap) -> None:
    picture_aggregates.save_aggregates_picture(aggregate(found), found, tmp_path / "new" / "a.png")
    pixels = image.imread(tmp_path / "new" / "a.png")
    assert pixels.shape[1] == 1920
    border = np.concatenate(
        [pixels[:8].reshape(-1, 4), pixels[-8:].reshape(-1, 4), pixels[:, -8:].reshape(-1, 4)]
    )
    assert (border == 1).all(), "something runs over the edge"
