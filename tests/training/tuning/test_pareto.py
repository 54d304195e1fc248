"""The front, its knee, and their pictures."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from halting.errors import UsageError
from training.tuning.label_places import Box, Named, place_names
from training.tuning.pareto import ParetoPoint, knee, names_with_seeds, pareto_front, stretches
from training.tuning.pareto_page import pareto_page
from training.tuning.pareto_picture import draw_pareto, save_pareto


def points(*pairs: tuple[float, float]) -> list[ParetoPoint]:
    return [
        ParetoPoint(f"{number}", accuracy, compute)
        for number, (compute, accuracy) in enumerate(pairs)
    ]


def labels(found: list[ParetoPoint]) -> list[str]:
    return [point.label for point in found]


def test_the_front_holds_what_nothing_beats_the_cheapest_first():
    assert labels(pareto_front(points((4, 0.9), (1, 0.2), (2, 0.8), (3, 0.7), (2, 0.6)))) == [
        "1",
        "2",
        "0",
    ]
    # As good for more compute, and as dear with less accuracy, are beaten; the same twice is there
    # once.
    assert labels(pareto_front(points((1, 0.5), (2, 0.5), (1, 0.4), (1, 0.5)))) == ["0"]
    assert pareto_front([]) == []


def test_the_knee_is_where_the_front_bends_most():
    bent = points((1, 0.0), (2, 0.9), (3, 0.95), (10, 1.0))
    assert knee(bent) == bent[1]
    # Another unit of either objective changes nothing.
    scaled = [ParetoPoint(each.label, 100 * each.accuracy - 7, 1e6 * each.compute) for each in bent]
    assert knee(scaled) == scaled[1]
    straight = points((1, 0.0), (2, 0.5), (3, 1.0))
    assert knee(straight) == straight[2]
    assert knee(points((1, 0.5))) == points((1, 0.5))[0] and knee([]) is None


def test_a_collapsed_point_ends_the_line_but_is_never_the_knee():
    cheap = ParetoPoint("cheap", 0.8, 1.0, collapsed=True)
    rest = points((2, 0.9), (3, 0.99), (9, 1.0))
    assert knee([cheap, *rest]) == rest[1]
    assert knee([cheap]) is None
    beaten = ParetoPoint("beaten", 0.7, 2.0)
    assert knee([cheap, beaten]) == beaten
    # Were it one to choose, it would be the knee of these.
    assert knee([ParetoPoint("dear", 1.0, 9.0), ParetoPoint("none", 0.0, 0.9), cheap]) != cheap


FULL = [
    ParetoPoint(
        "0.3", 0.7, 1.0, 0.3, (0.69, 0.71), (1.0, 1.0), collapsed=True, details=(("seeds", "3"),)
    ),
    ParetoPoint(
        "0.01 <b>",
        0.99,
        2.4,
        0.01,
        (0.98, 0.995),
        (2.2, 2.6),
        details=(("seeds", "3"), ("rho", "0.8")),
    ),
    ParetoPoint("0", 0.991, 5.0, 0.0),
    ParetoPoint("0.001", 0.99, 6.0, 0.001),
]


def pictures(page: str) -> list[str]:
    """The wide one, and the one for a phone."""
    found = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(found) == 2
    return found


@pytest.mark.parametrize("count", [1, 4])
def test_the_picture_is_drawn(tmp_path: Path, count: int):
    save_pareto(FULL[:count], tmp_path / "deep" / "front.png")
    assert (tmp_path / "deep" / "front.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(UsageError, match="no point"):
        save_pareto([], tmp_path / "none.png")


def test_the_page_is_whole_and_needs_nothing_else():
    page = pareto_page(FULL, "pointer_chase <i>", ["30 s a trial"])
    assert not re.search(r"<script|https?:|<link|<img|@import|<i>|<b>", page)
    for picture in pictures(page):
        assert (
            picture.count('class="star"') == 1
            and picture.count('class="cross"') == 2
            and picture.count('class="beaten"') == 1
        )
    assert page.count("<tr>") == 1 + len(FULL) and "★ knee" in page and "✗ collapsed" in page
    assert "0.01 &lt;b&gt;" in page and "30 s a trial" in page
    for opened in ("svg", "g", "table", "body"):
        assert len(re.findall(rf"<{opened}[ >]", page)) == page.count(f"</{opened}>")
    assert all(
        picture.count('class="star"') == 1 for picture in pictures(pareto_page(FULL[2:3], "one"))
    )


# A real sweep of pointer_chase: three settings lie almost on one point, and two on another.
CROWDED = [
    ParetoPoint(
        label,
        accuracy,
        steps,
        None,
        (accuracy - 0.001, accuracy + 0.001),
        (steps - 0.15, steps + 0.15),
        lost,
    )
    for label, accuracy, steps, lost in (
        *(
            ("1", 0.8071, 1.0, True),
            ("3", 0.8083, 1.0, True),
            ("0.3", 0.905, 1.488, False),
            ("0.1", 0.8967, 1.508, False),
        ),
        *(
            ("0.03", 0.9998, 1.861, False),
            ("0.01", 0.9998, 2.006, False),
            ("0.003", 0.9978, 2.465, False),
        ),
        *(("0", 0.9998, 2.482, False), ("0.001", 0.9985, 2.677, False)),
    )
]


def test_each_point_of_a_crowded_picture_has_its_name_and_none_lies_on_another():
    figure = Figure(figsize=(8, 5), dpi=160, layout="constrained")
    canvas, at = FigureCanvasAgg(figure), figure.add_subplot()
    draw_pareto(at, CROWDED, legend_below=True)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in at.texts]
    assert sorted(text.get_text() for text in at.texts) == sorted(labels(CROWDED))
    assert not any(
        one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number]
    )
    room, legend = at.get_window_extent(), at.get_legend()
    assert all(
        room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
        for box in boxes
    )
    assert legend is not None and "collapsed" in [text.get_text() for text in legend.get_texts()]
    assert not legend.get_window_extent(canvas.get_renderer()).overlaps(room)
    page = pareto_page(CROWDED, "crowded")
    for picture in pictures(page):
        assert all(f">{name}</text>" in picture for name in labels(CROWDED))
        assert picture.count('class="shade"') == 1 and picture.count('class="cross"') == 4


def test_a_name_keeps_off_other_names_marks_and_lines_and_is_left_out_where_nothing_is_free():
    one, room = Named(50, 50, 4, 20, 10), Box(0, 0, 100, 100)
    (place,) = place_names([one], [one], [], room)
    assert place is not None and place.left > 50 and place.low > 50 and place.within(room)
    (below,) = place_names([one], [one], [(40, 60, 100, 60)], room)
    assert below is not None and below.high < 60
    first, second = place_names([one, one], [one], [], room)
    assert first is not None and second is not None and not first.meets(second)
    assert place_names([one], [one], [], Box(40, 40, 55, 55)) == [None]
    crossed = place_names([one], [one], [(0, y, 100, y) for y in range(0, 100, 2)], room)
    assert crossed == [place]  # better on a line than nowhere
    assert stretches([1.0, 5.0, 1.5], 0.5) == [(0.5, 2.0), (4.5, 5.5)]


def test_the_number_of_seeds_stands_once_or_at_each_point():
    one, other = (replace(each, seeds=3) for each in FULL[1:3])
    assert names_with_seeds(FULL[:2]) == (["0.3", "0.01 <b>"], "")
    assert names_with_seeds([one, other]) == (["0.01 <b>", "0"], "each point: mean of 3 seeds")
    assert names_with_seeds([replace(one, seeds=1)])[1] == "each point: one seed"
    fewer = replace(other, seeds=1)
    assert names_with_seeds([one, fewer]) == (["0.01 <b> ×3", "0 ×1"], "×: number of seeds")
    assert "Each point: mean of 3 seeds." in pareto_page([one, other], "same")
    assert ">0 ×1</text>" in pareto_page([one, fewer], "unlike")
    for points, name in (([one, other], "0"), ([one, fewer], "0 ×1")):
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        at = figure.add_subplot()
        draw_pareto(at, points)
        assert name in [text.get_text() for text in at.texts]
        assert "seeds" in at.get_xlabel()
