"""The page of a front as a phone and a screen show it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_page import started, watched
from playwright.sync_api import Browser

from training.tuning.pareto import ParetoPoint
from training.tuning.pareto_page import pareto_page

LONG = "--data.path=/a/path/" + "without/any/space/" * 8
DETAILS = (("FLOPs a token", "2.86e+05"), ("Spearman", "-0.63"), ("collapsed", "1 of 3"))
FRONT = (("1", 0.81, 1.0), ("0.3", 0.905, 1.488), ("0.01", 0.9998, 2.006), ("0", 0.9999, 2.482))
SMALLEST = 10.5  # pixels that a letter of the picture takes at least
_SEEN = """() => {
  const inside = (one, other) =>
    one.left >= other.left - 0.5 && one.right <= other.right + 0.5 &&
    one.top >= other.top - 0.5 && one.bottom <= other.bottom + 0.5;
  const shown = [...document.querySelectorAll("svg")].filter((each) => each.clientWidth);
  const room = shown[0].getBoundingClientRect();
  const texts = [...shown[0].querySelectorAll("text")];
  const boxes = texts.map((each) => each.getBoundingClientRect());
  const table = document.querySelector(".table");
  return {
    pictures: shown.length,
    wide: document.documentElement.scrollWidth,
    cut: texts.filter((_, place) => !inside(boxes[place], room)).map((each) => each.textContent),
    letters: 13 * room.width / shown[0].viewBox.baseVal.width,
    scrolls: table.scrollWidth - table.clientWidth,
    right: table.getBoundingClientRect().right,
  };
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.mark.parametrize("width", [320, 360, 700, 1280])
def test_nothing_is_cut_and_letters_are_read_at_every_width(
    chromium: Browser, tmp_path: Path, width: int
):
    points = [
        ParetoPoint(label, accuracy, steps, None, None, None, steps == 1, DETAILS)
        for label, accuracy, steps in FRONT
    ]
    path = tmp_path / "pareto.html"
    path.write_text(pareto_page(points, "Sweep of pointer_chase", [LONG]), encoding="utf-8")
    with watched(chromium, path.as_uri(), viewport={"width": width, "height": 900}) as page:
        page.goto(path.as_uri())
        seen = page.evaluate(_SEEN)
    assert seen["pictures"] == 1
    assert seen["wide"] <= width, "the page scrolls sideways"
    assert seen["cut"] == []
    assert seen["letters"] >= SMALLEST
    assert seen["right"] <= width
    assert (seen["scrolls"] > 0) == (width < 1000), "a wide table scrolls in itself, where it must"
