"""Two ponder maps of the same examples, compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_maps import empty, fabricate, small
from matplotlib import image

from halting import PonderMap, UsageError
from halting.maps.comparison import compare
from halting.maps.viewers.picture import comparison as picture_comparison
from halting.maps.viewers.terminal import comparison as terminal_comparison


def other() -> PonderMap:
    """`small` thought about by another model: 2 2 8 | 3 steps instead of 1 2 10 | 3; the second
    token right, and the third wrong."""
    steps = np.array([[2, 2, 8], [3, 0, 0]])
    return replace(
        small(),
        steps=steps,
        ponder=steps * 1.0,
        mass=(np.arange(1, 11) == steps[..., None]).astype(np.float32),
        final_prediction=np.array([[1, 0, 0], [0, 0, 0]]),
        metadata={"run": "other"},
    )


def test_differences_counted_by_hand() -> None:
    found = compare(small(), other())
    assert found.steps.value == pytest.approx(-1 / 4)
    assert (found.longer.value, found.shorter.value, found.answers.value) == (0.25, 0.25, 0.5)
    assert (
        found.both.value,
        found.only_first.value,
        found.only_second.value,
        found.neither.value,
    ) == (
        0.5,
        0.25,
        0.25,
        0,
    )
    assert found.agreement == pytest.approx(0.9486833)  # ranks 1 2 4 3 and 1.5 1.5 4 3
    same = compare(small(), small())
    assert (same.steps.value, same.answers.value, same.agreement) == (0, 0, pytest.approx(1))


def test_maps_of_other_examples_are_refused() -> None:
    targets = np.array(small().targets)
    targets[0, 0] += 1
    for changed in (fabricate(), replace(small(), targets=targets)):
        with pytest.raises(UsageError, match="other examples"):
            compare(small(), changed)
        with pytest.raises(UsageError, match="other examples"):
            terminal_comparison.render([small(), changed])
    with pytest.raises(UsageError, match="27 maps"):
        terminal_comparison.render([small()] * 27)


def test_the_terminal_shows_exactly_this() -> None:
    text = terminal_comparison.render([small(), other()], width=100, colour=False, ascii_only=True)
    assert text == "\n".join(
        [
            "A  parity-001 | parity | GravesACT | at most 10 steps | 4.00 steps a token | 75 % "
            "right",
            "B  other | at most 10 steps | 3.75 steps a token | 75 % right",
            "",
            "sequence 1 of 2",
            "tok     1   0   1",
            "A       1   2  10",
            "B       2   2   8",
            "B-A    +1      -2",
            "A x         x",
            "B x             x",
            "ans !       !   !",
            "",
            "sequence 2 of 2",
            "tok    0",
            "A      3",
            "B      3",
        ]
    )


@pytest.mark.parametrize("number", [2, 4])
def test_pictures(tmp_path: Path, number: int) -> None:
    maps = [
        fabricate(6, 60),
        *[replace(fabricate(6, 60), metadata={"run": "x" * 40})] * (number - 1),
    ]
    picture_comparison.save_comparison_picture(maps, tmp_path / "c.png")
    pixels = image.imread(tmp_path / "c.png")
    border = np.concatenate(
        [pixels[:8].reshape(-1, 4), pixels[-8:].reshape(-1, 4), pixels[:, -8:].reshape(-1, 4)]
    )
    assert pixels.shape[1] == 1920 and (border == 1).all(), "something runs over the edge"


def test_pictures_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="1 maps"):
        picture_comparison.save_comparison_picture([small()], "never.png")
    with pytest.raises(UsageError, match="no tokens"):
        picture_comparison.save_comparison_picture([empty(1, 2)] * 2, "never.png")
