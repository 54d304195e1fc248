"""The words of the picture: none on another, none over the edge, and numbers of tokens at points."""

from dataclasses import replace

import numpy as np
import pytest
from fabricated_maps import fabricate, small
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from halting import PonderMap
from halting.maps.aggregates import aggregate
from halting.maps.viewers.picture import aggregates, comparison
from halting.maps.viewers.picture import map as picture
from halting.maps.viewers.picture.counts import draw_counts, short_count


def drawn(found: PonderMap) -> Figure:
    figure = Figure(dpi=100)
    FigureCanvasAgg(figure)
    picture._draw(figure, found, found.sequence(0), 0, ())
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("length", [1, 2, 4, 6, 16, 30, 60])
@pytest.mark.parametrize("word", ["", "green"])
def test_no_word_lies_on_another_or_over_the_edge(length: int, word: str) -> None:
    found = fabricate(8, length)
    texts = [[word or text for text in row] for row in found.texts]
    wrong = np.where(found.valid, (found.targets + 1) % 16, 0)  # pyright: ignore[reportOptionalOperand]
    figure = drawn(replace(found, texts=texts, final_prediction=wrong))
    axes = [axis for at in figure.axes for axis in (at.xaxis, at.yaxis)]
    ticks = {each for axis in axes for each in axis.get_ticklabels(which="both")}
    found_words = [each for each in figure.findobj(Text) if each.get_visible()]
    words = [each for each in found_words if each.get_text() and each not in ticks]
    boxes = {each: each.get_window_extent() for each in words}
    sheet = figure.bbox
    for one, box in boxes.items():
        assert sheet.x0 <= box.x0 and box.x1 <= sheet.x1, one
        assert sheet.y0 <= box.y0 and box.y1 <= sheet.y1, one
    headings = [each for each in words if each.axes is None or each.get_fontweight() == "bold"]
    for one in headings:
        on_it = [each for each in words if each is not one and boxes[one].overlaps(boxes[each])]
        assert on_it == [], one
    assert any("outlined" in each.get_text() for each in headings)


@pytest.mark.parametrize("lens", [True, False])
@pytest.mark.parametrize("length", [4, 16, 30, 60])
def test_the_panels_of_a_row_take_its_whole_width(length: int, lens: bool) -> None:
    found = fabricate(8, length)
    figure = drawn(found if lens else replace(found, target_probability=None))
    panels = figure.axes[1:]  # below the strip
    rows = {round(each.get_position().y0, 3) for each in panels}
    for row in rows:
        places = [each.get_position() for each in panels if round(each.get_position().y0, 3) == row]
        assert min(place.x0 for place in places) < 0.07
        assert max(place.x1 for place in places) > 0.88
    assert all(each.axison for each in panels)


def axes() -> Axes:
    figure = Figure(figsize=(4, 3))
    FigureCanvasAgg(figure)
    at = figure.add_subplot()
    at.set(xlim=(0, 40), ylim=(0, 10))
    return at


def test_numbers_of_tokens_stand_over_the_points_turned_where_they_are_close() -> None:
    at = axes()
    assert draw_counts(at, [1, 20, 39], [2, 2, 2], [3000, 12, 3]) == "above: number of tokens"
    assert [each.get_text() for each in at.texts] == ["3,000", "12", "3"]
    assert at.get_ylim()[1] > 10 and max(at.get_yticks()) == 10
    assert all(each.get_position()[1] > 10 and each.get_rotation() == 0 for each in at.texts)
    at = axes()
    places = list(range(0, 40, 2))
    assert draw_counts(at, places, places, [3000 - n for n in places]) == "above: number of tokens"
    assert len(at.texts) == 20 and {each.get_rotation() for each in at.texts} == {90}


def test_one_number_is_said_once_and_few_tokens_are_hollow_where_no_number_fits() -> None:
    at = axes()
    assert draw_counts(at, [1, 2], [1, 1], [1, 1]) == "1 token at each point"
    assert draw_counts(at, [], [], []) == "" and not at.texts
    places = np.linspace(0, 40, 80).tolist()
    says = draw_counts(at, places, places, [3, *[3000] * 79])
    assert says == "3 to 3,000 tokens a point, hollow: fewer than 30" and not at.texts
    assert at.lines[0].get_xydata().tolist() == [[0, 0]]  # pyright: ignore[reportAttributeAccessIssue]
    assert "hollow" not in draw_counts(at, places, places, [30, *[3000] * 79])
    assert short_count(1_234_567) == "1,235k"


def test_the_curve_tells_its_numbers() -> None:
    curve = drawn(small()).axes[-1]
    assert [each.get_text() for each in curve.texts] == ["1", "2", "1"]
    assert "number of tokens" in curve.get_xlabel()


def test_aggregates_and_comparisons_tell_theirs_too() -> None:
    by = aggregate(small()).by
    for draw in (
        lambda at: aggregates._draw_curve(at, by["difficulty"], "", "ones", 10),
        lambda at: comparison._draw_by_difficulty(at, [small(), small()]),
    ):
        at = axes()
        at.set_xlim(auto=True)
        draw(at)
        assert [each.get_text() for each in at.texts] == ["1", "2", "1"]
    at = axes()
    aggregates._draw_types(at, by["type"], 10)
    assert sorted(each.get_text() for each in at.texts) == ["2", "2", "tokens"]
