"""The page's controls in a real browser, by pointer and by keys."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import file_opener, started
from playwright.sync_api import Browser, expect
from ponder_pages import SMALL, changed, choose, marked, slide, values

from halting.maps.viewers.caption import percent
from halting.maps.viewers.colours import step_colour
from halting.maps.viewers.page.page import to_html


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with started() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def opened(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    with file_opener(chromium, tmp_path_factory.mktemp("pages")) as opener:
        yield opener


def test_modes_and_step_slider(opened: Callable[..., Any]) -> None:
    one = SMALL.sequence(0)
    assert (
        one.predictions is not None
        and one.targets is not None
        and one.target_probability is not None
    )
    with opened(to_html(SMALL)) as page:
        assert page.locator("main .cell bdi").all_text_contents()[:12] == one.texts[0]
        assert values(page) == marked([str(n) for n in one.steps[0]], one.wrong[0])
        assert page.locator("#legend .scale span span").all_text_contents() == [
            str(n) for n in range(1, 11)
        ]
        colour = page.locator("main .cell").first.evaluate(
            "(cell) => getComputedStyle(cell).backgroundColor"
        )
        wanted = step_colour(int(one.steps[0, 0]), 10)
        assert [int(part) for part in colour[4:-1].split(",")] == pytest.approx(
            [int(wanted[n : n + 2], 16) for n in (1, 3, 5)], abs=4
        )
        slide(page, "step", 5)
        assert page.locator("#step-is").inner_text() == "5 of 10"
        assert values(page) == marked(
            [str(n) if n <= 5 else "…" for n in one.steps[0]], one.wrong[0]
        )
        choose(page, "prediction")
        held = np.minimum(5, one.steps[0]) - 1
        said = one.predictions[0, np.arange(12), held]
        assert values(page) == marked([str(n) for n in said], said != one.targets[0])
        left = (
            page.locator(".sequence")
            .first.locator(".cell")
            .evaluate_all("(all) => all.map((c) => c.classList.contains('left'))")
        )
        assert left == (one.steps[0] <= 5).tolist()
        choose(page, "mass")
        shares = [value.strip("✗") for value in values(page)]
        for share, mass, steps in zip(shares, one.mass[0, :, 4], one.steps[0], strict=True):
            assert share == (
                "" if steps < 5 else "<1%" if 0 < mass < 0.01 else f"{100 * mass:.0f}%"
            )
        choose(page, "error")
        errors = [value.strip("✗") for value in values(page)]
        for error, right in zip(
            errors, one.target_probability[0, np.arange(12), held], strict=True
        ):
            assert error in ("<1%", ">99%") or abs(float(error[:-1]) - 100 * (1 - right)) <= 0.51


def test_pointing_at_a_token_tells_all_of_it(opened: Callable[..., Any]) -> None:
    one = SMALL.sequence(1)
    assert one.predictions is not None and one.targets is not None and one.confidence is not None
    place = int(np.flatnonzero(one.wrong[0])[0]) if one.wrong.any() else 2
    with opened(to_html(SMALL)) as page:
        assert page.locator("#details").inner_text() == "Point at a token, or move to one by keys."
        cell = page.locator(".sequence").nth(1).locator(".cell").nth(place)
        cell.hover()
        told = page.locator("#details").inner_text()
        assert f"sequence 2, token {place}" in told and f"{one.steps[0, place]} of 10 steps" in told
        assert f"hops {one.difficulty[0, place]:g}" in told  # pyright: ignore[reportOptionalSubscript]
        assert f"right answer {one.targets[0, place]}" in told
        assert ("✗ wrong" if one.wrong[0, place] else "✓ right") in told
        rows = page.locator("#details tbody tr").all()
        assert len(rows) == one.steps[0, place]
        for step, row in enumerate(rows):
            cells = [row.locator("th").inner_text(), *row.locator("td").all_inner_texts()]
            assert cells[0] == str(step + 1)
            assert cells[1] == percent(round(float(one.mass[0, place, step]), 6))
            assert float(cells[2]) == pytest.approx(float(one.score[0, place, step]), rel=6e-3)
            assert cells[3] == str(one.predictions[0, place, step])
            assert cells[4] == percent(round(float(one.confidence[0, place, step]), 6))
        heights = page.locator(".chart b").evaluate_all(
            "(bars) => bars.map((bar) => bar.style.height)"
        )
        assert heights == [f"{100 * mass:.1f}%" for mass in one.mass[0, place] if mass > 0]
        assert page.locator(".chart u").count() == one.steps[0, place]
        page.locator("main .cell").first.hover()
        assert "sequence 1, token 0" in page.locator("#details").inner_text()
        cell.click()
        page.locator("main .cell").first.hover()
        assert f"sequence 2, token {place}" in page.locator("#details").inner_text(), (
            "a click keeps it"
        )
        page.keyboard.press("Escape")
        page.locator("main .cell").nth(1).hover()
        assert "sequence 1, token 1" in page.locator("#details").inner_text()


def test_keys_move_between_tokens_and_steps(opened: Callable[..., Any]) -> None:
    where = (
        "() => [document.activeElement.token, document.activeElement.getAttribute('aria-label')]"
    )
    lengths = SMALL.valid.sum(-1).tolist()
    with opened(to_html(SMALL), 420, 500) as page:
        columns = page.locator(".row").first.locator(".cell").count()
        assert columns < 12 <= 2 * columns
        page.locator("#theme").focus()
        page.keyboard.press("Tab")
        steps = int(SMALL.steps[0, 0])
        assert page.evaluate(where) == [0, f"token 0, {SMALL.texts[0][0]}, {steps} of 10 steps"]
        assert f"{steps} of 10 steps" in page.locator("#details").inner_text()
        for key, token in (
            ("ArrowRight", 1),
            ("ArrowLeft", 0),
            ("ArrowLeft", 0),
            ("ArrowDown", columns),
            ("ArrowUp", 0),
            ("End", 11),
            ("ArrowRight", 12),
            ("ArrowLeft", 11),
            ("Home", 0),
        ):
            page.keyboard.press(key)
            assert page.evaluate(where)[0] == token, key
        page.mouse.move(200, 250)
        for _ in range(sum(lengths)):
            page.keyboard.press("ArrowRight")
        told = f"sequence 4, token {lengths[3] - 1}"
        assert told in page.locator("#details").inner_text(), (
            "the page was scrolled under a pointer that rests"
        )
        assert page.evaluate(where)[0] == sum(lengths) - 1, (
            "rows come into the document as the focus reaches them"
        )
        focused = "() => document.activeElement.getBoundingClientRect().bottom"
        assert page.evaluate(focused) < page.locator("#details").bounding_box()["y"], (
            "the details cover it"
        )
        choose(page, "mass")
        page.locator("[tabindex='0'].cell").focus()
        page.keyboard.press("-")
        page.keyboard.press("-")
        expect(page.locator("#step-is")).to_have_text("8 of 10")
        assert ", mass at step 8: " in page.evaluate(where)[1]


def test_filters(opened: Callable[..., Any]) -> None:
    valid = SMALL.valid.sum()
    with opened(to_html(SMALL)) as page:
        page.select_option("#filter", "wrong")
        sequences = SMALL.wrong.any(-1)
        says = f"wrong: {SMALL.wrong.sum()} of {valid} tokens, in {sequences.sum()} of 4 sequences"
        assert page.locator("#matches").inner_text() == says
        visible = [page.locator(".sequence").nth(row).is_visible() for row in range(4)]
        assert visible == sequences.tolist()
        on = page.locator("main .cell:not(.off)")
        on.first.wait_for()
        assert page.locator(".sequence:visible .cell:not(.off)").count() == SMALL.wrong.sum()
        matches = np.flatnonzero(SMALL.wrong[SMALL.valid]).tolist()
        for token in [*matches, matches[0]]:
            page.click("#next")
            assert page.evaluate("() => document.activeElement.token") == token
        page.keyboard.press("p")
        assert page.evaluate("() => document.activeElement.token") == matches[-1]
        page.select_option("#filter", "most")
        count = int(page.locator("#matches").inner_text().split(": ")[1].split(" of ")[0])
        ponder = np.sort(SMALL.ponder[SMALL.valid])[::-1]
        assert count > 0 and page.locator("#matches").inner_text().startswith(
            f"{ponder[count - 1]:g} steps or more: "
        )
        assert count <= 0.1 * valid + 1 or ponder[count - 1] == ponder[0], (
            "a tenth, or all at the top"
        )


def test_both_sliders_play(chromium: Browser, tmp_path: Path) -> None:
    growth = [changed(2, update=100), changed(1, update=200)]
    with (
        file_opener(chromium, tmp_path) as opened,
        opened(
            to_html(replace(SMALL, metadata={**SMALL.metadata, "update": 300}), growth=growth)
        ) as page,
    ):
        page.clock.install()
        page.click("#play-steps")
        assert page.locator("#play-steps").inner_text() == "❚❚ stop"
        assert page.locator("#step").input_value() == "1"
        page.clock.run_for(1300)
        assert page.locator("#step").input_value() == "3"
        page.click("#play-steps")
        page.clock.run_for(5000)
        assert (
            page.locator("#step").input_value() == "3"
            and page.locator("#step-is").inner_text() == "3 of 10"
        )
        page.click("#play-steps")
        page.clock.run_for(9000)
        assert page.locator("#step").input_value() == "10"
        assert page.locator("#play-steps").inner_text() == "▶ play"
        assert page.locator("#frame-is").inner_text() == "300"
        for frame, found in enumerate([*growth, SMALL]):
            slide(page, "frame", frame)
            page.clock.run_for(50)
            assert page.locator("#frame-is").inner_text() == str(100 * (frame + 1))
            one = found.sequence(0)
            assert values(page) == marked([str(n) for n in one.steps[0]], one.wrong[0])
            assert (
                f"{one.steps.mean():.2f} steps a token"
                in page.locator(".sequence h2").first.inner_text()
            )
        page.click("#play-growth")
        assert page.locator("#frame").input_value() == "0"
        page.clock.run_for(5000)
        assert page.locator("#frame").input_value() == "2"
        assert page.locator("#play-growth").inner_text() == "▶ play training"
