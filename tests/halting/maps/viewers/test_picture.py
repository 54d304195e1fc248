"""A ponder map as a picture, and the scale of its colours."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fabricated_maps import fabricate, fabricate_text, small, with_texts
from matplotlib import image

from halting import PonderMap, UsageError
from halting.maps.viewers.colours import WRONG, colour_at, contrast, luminance, step_colour, text_on
from halting.maps.viewers.picture.map import save_map_picture
from training.resources.compute_saved import ComputeSaved, MeasuredCost, draw_saved
from training.tuning.pareto import ParetoPoint
from training.tuning.pareto_picture import draw_pareto


@pytest.mark.parametrize(
    "found",
    [
        fabricate(),
        fabricate(2, 600, 6),
        fabricate(3, 1, 4),
        fabricate_text("def f():\n\treturn '日本語'  # $x_1$ and $\\frac"),
        with_texts(["a very long token text indeed", "שלום", "$", "\x1b"] * 15),
        replace(fabricate(), target_probability=None, difficulty=None, targets=None),
        replace(fabricate(2, 60), target_probability=None),
    ],
    ids=["usual", "long", "one token", "characters", "texts", "bare", "wide without lens"],
)
def test_pictures(tmp_path: Path, found: PonderMap) -> None:
    path = tmp_path / "new" / "map.png"
    save_map_picture(found, path)
    pixels = image.imread(path)
    height, width = pixels.shape[:2]
    assert width == 1920 and 700 <= height <= 4500
    assert path.stat().st_size < 1_500_000
    for side in (pixels[-560:-240, :960], pixels[-560:-240, 960:]):
        assert (side != 1).any(-1).mean() > 0.02, "half of the last row is empty"
    border = np.concatenate(
        [pixels[:8].reshape(-1, 4), pixels[-8:].reshape(-1, 4), pixels[:, -8:].reshape(-1, 4)]
    )
    assert (border == 1).all(), "something runs over the edge"
    strip = pixels[:, :, :3].reshape(-1, 3)
    red, green, blue = (
        int(step_colour(int(found.steps[0, 0]), found.max_steps)[n : n + 2], 16) for n in (1, 3, 5)
    )
    assert (np.abs(strip * 255 - (red, green, blue)) < 1).all(-1).sum() > 100, (
        "the first token's colour"
    )


def test_wrong_answers_are_outlined_in_the_picture(tmp_path: Path) -> None:
    counts = []
    for found in (small(), replace(small(), final_prediction=small().targets)):
        save_map_picture(found, tmp_path / "map.png")
        pixels = image.imread(tmp_path / "map.png")[:, :, :3] * 255
        counts.append(
            int((np.abs(pixels - [int(WRONG[n : n + 2], 16) for n in (1, 3, 5)]) < 1).all(-1).sum())
        )
    assert counts[0] > 200 and counts[1] == 0


def test_the_sheet_shows_a_front_and_what_was_saved(tmp_path: Path) -> None:
    points = [
        ParetoPoint("0", 0.99, 6.0),
        ParetoPoint("0.01", 0.98, 2.0),
        ParetoPoint("1", 0.2, 1.0, collapsed=True),
    ]
    measured = (
        MeasuredCost("FLOPs, training", 1, 4, "1 of 4"),
        MeasuredCost("time, training", 6, 5, "6 of 5 ms"),
    )
    save_map_picture(small(), tmp_path / "bare.png")
    saved = ComputeSaved(10, measured, "a test")
    panels = [
        partial(draw_pareto, points=points),
        partial(draw_saved, ponder_map=small(), saved=saved),
    ]
    save_map_picture(small(), tmp_path / "full.png", beside=panels)
    bare, full = (image.imread(tmp_path / f"{name}.png")[:, :, :3] for name in ("bare", "full"))
    assert bare.shape[0] + 500 < full.shape[0], "what is beside takes a row of its own"
    grown = full[bare.shape[0] :] != 1
    assert grown[:, : 1920 // 2].any() and grown[:, 1920 // 2 :].any(), (
        "both panels show what they were given"
    )
    assert (full[:8] == 1).all() and (full[-8:] == 1).all() and (full[:, -8:] == 1).all(), (
        "something runs over the edge"
    )


def test_pictures_of_other_sequences(tmp_path: Path) -> None:
    for row in (0, 1):
        save_map_picture(small(), tmp_path / f"{row}.png", sequence=row)
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()
    with pytest.raises(UsageError, match="Sequence 2"):
        save_map_picture(small(), tmp_path / "2.png", sequence=2)


def test_the_scale_is_ordered_and_legible() -> None:
    scale = [colour_at(share / 100) for share in range(101)]
    assert all(luminance(pale) > luminance(dark) for pale, dark in pairwise(scale))
    assert min(contrast(text_on(colour), colour) for colour in scale) >= 4.5
    assert (step_colour(1, 10), step_colour(10, 10), step_colour(1, 1)) == (
        scale[0],
        scale[100],
        scale[0],
    )
