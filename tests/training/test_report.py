"""What a report says of a run."""

import math

import pytest

from training.report import agreement_of_steps


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"share_as_one": 0.2, "spearman_steps_difficulty": 0.8, "spearman_sequences": 0.1}, ("tokens", 0.8)),
        ({"share_as_one": 1.0, "spearman_steps_difficulty": 0.1, "spearman_sequences": 0.6}, ("sequences", 0.6)),
        ({"share_as_one": 1.0, "spearman_steps_difficulty": 0.1, "spearman_sequences": math.nan}, ("sequences", None)),
        ({"share_as_one": 0.0}, ("tokens", None)),
    ],
)
def test_steps_are_compared_over_what_leaves_together(figures, told):
    assert agreement_of_steps(figures) == told
