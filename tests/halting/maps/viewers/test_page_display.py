"""The page's display, as a real browser draws it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_page import file_opener, started
from fabricated_maps import empty, fabricate, fabricate_text
from playwright.sync_api import Browser
from ponder_pages import SMALL, changed, choose, marked, slide, values

from halting.maps.viewers.page.page import to_html

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<b>",
    "שלום",
    "👩‍🚀",
    "a\nb",
    "{{about}}",
    "&amp;",
    "\u202e",
    "\x1b",
    "\ud800",
]


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


def test_two_runs_side_by_side(opened: Callable[..., Any]) -> None:
    other = changed(run="<i>pointer_chase-002", rule="PonderNet")
    with opened(to_html(SMALL, others=[other])) as page:
        assert page.locator(".sequence").first.locator(".caption b").all_text_contents() == [
            "pointer_chase-001",
            "<i>pointer_chase-002",
        ]
        first, second = (
            page.locator(".sequence").first.locator(".strip").nth(pane).bounding_box()
            for pane in (0, 1)
        )
        assert first["y"] == second["y"] and first["x"] + first["width"] < second["x"]
        for pane, found in enumerate((SMALL, other)):
            one = found.sequence(0)
            assert values(page, pane) == marked([str(n) for n in one.steps[0]], one.wrong[0])
        page.locator(".sequence").first.locator(".strip").nth(0).locator(".cell").first.click()
        assert page.locator(".cell.at").count() == 2, "the same token of both runs"
        assert page.locator("#details h3").all_text_contents() == [
            "pointer_chase-001",
            "<i>pointer_chase-002",
        ]
        page.keyboard.press("o")
        assert page.evaluate("() => document.activeElement.pane") == 1
        page.select_option("#filter", "differ")
        differ = SMALL.valid & (
            (SMALL.steps != other.steps) | (SMALL.final_prediction != other.final_prediction)
        )
        assert (
            page.locator("#matches")
            .inner_text()
            .startswith(f"other steps or another answer: {differ.sum()} of ")
        )
        page.set_viewport_size({"width": 400, "height": 800})
        first, second = (
            page.locator(".sequence").first.locator(".strip").nth(pane).bounding_box()
            for pane in (0, 1)
        )
        assert first["x"] == second["x"] and first["y"] + first["height"] < second["y"]


def test_hostile_texts_show_as_themselves_and_run_nothing(opened: Callable[..., Any]) -> None:
    found = fabricate_text("x" * len(HOSTILE))
    answers = {str(n): text for n, text in enumerate(HOSTILE)}
    shape = (1, len(HOSTILE), 8)
    said = np.where(
        np.arange(8) < found.steps[..., None], np.arange(len(HOSTILE))[None, :, None], -1
    )
    hostile = replace(
        found,
        texts=[HOSTILE],
        predictions=said,
        confidence=np.where(said < 0, np.nan, 0.5).reshape(shape),
        metadata={
            "run": HOSTILE[0],
            "task": HOSTILE[1],
            "answers": answers,
            "difficulty_name": HOSTILE[0],
        },
    )
    shown = [
        HOSTILE[0].replace(" ", "␣"),
        "<b>",
        "שלום",
        "👩‍🚀",
        "a⏎b",
        "{{about}}",
        "&amp;",
        "\\u202e",
        "␛",
        "\\ud800",
    ]
    with opened(to_html(hostile)) as page:
        assert page.locator("main .cell bdi").all_text_contents() == shown
        choose(page, "prediction")
        assert page.locator("main .cell span").all_text_contents() == shown
        page.locator("main .cell").first.click()
        assert page.locator("#details .token").inner_text() == shown[0]
        assert page.locator("img, #sequences b, #details .token *").count() == 0
        assert HOSTILE[0] in page.title()
        assert HOSTILE[0] in page.locator("#facts").inner_text()


def test_what_a_map_lacks_is_not_offered(opened: Callable[..., Any]) -> None:
    with opened(to_html(fabricate_text("def f():\n"))) as page:
        assert page.locator("#modes input:disabled").evaluate_all(
            "(all) => all.map((one) => one.value)"
        ) == [
            "prediction",
            "error",
        ]
        assert page.locator("#filter option").all_text_contents() == ["all tokens", "most pondered"]
        assert page.locator("#growth").is_hidden()
    for found, texts in ((empty(), 0), (empty(2, 3), 2)):
        with opened(to_html(found)) as page:
            assert page.locator(".sequence .nothing").count() == texts


def test_light_and_dark_by_axe(opened: Callable[..., Any]) -> None:
    page_text = to_html(SMALL, others=[changed(run="other")], growth=[changed(2, update=5)])
    with opened(page_text, color_scheme="light") as page:
        page.locator("main .cell").nth(2).click()
        axe, papers = Axe(), []
        for theme, mode, step, filtered in (
            ("", "steps", 4, "all"),
            ("dark", "prediction", 2, "wrong"),
        ):
            page.select_option("#theme", theme)
            choose(page, mode)
            slide(page, "step", step)
            page.select_option("#filter", filtered)
            found = axe.run(page).response
            assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
            assert "color-contrast" in {each["id"] for each in found["passes"]}
            papers.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        page.evaluate("() => { document.querySelector('#facts p').style.color = '#333'; }")
        assert [each["id"] for each in axe.run(page).response["violations"]] == [
            "color-contrast"
        ], "it sees what is wrong"
        page.select_option("#theme", "")
        page.emulate_media(color_scheme="dark")
        papers.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert papers == ["rgb(255, 255, 255)", "rgb(21, 23, 26)", "rgb(21, 23, 26)"]


def test_nothing_scrolls_sideways(opened: Callable[..., Any]) -> None:
    wide = replace(
        SMALL,
        texts=[["incomprehensibilities"] * 12] * 4,
        metadata={**SMALL.metadata, "run": "r" * 90},
    )
    with opened(to_html(wide, others=[wide], growth=[wide]), 1920) as page:
        page.locator("main .cell").first.click()
        page.select_option("#filter", "wrong")
        for width in (1920, 768, 360):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            inside = page.locator("#controls *").evaluate_all(
                "(all) => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
            )
            assert inside <= width


def test_only_rows_near_the_window_are_in_the_document(opened: Callable[..., Any]) -> None:
    large = fabricate(64, 512, 32, vocabulary=300)
    with opened(to_html(large)) as page:
        assert page.locator(".sequence").count() == 64
        assert 0 < page.locator("main .cell").count() < 2500
        choose(page, "prediction")
        # So many cells, and no more, are touched when the slider moves.
        page.evaluate("""() => {
            window.touched = 0;
            const count = new MutationObserver((all) => { window.touched += all.length; });
            count.observe(document.querySelector('main'), {subtree: true, attributes: true, characterData: true});
        }""")
        slide(page, "step", 3)
        assert 0 < page.evaluate("() => window.touched") <= 2 * page.locator("main .cell").count()
        page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function(
            "(least) => [...document.querySelectorAll('main .cell')].some((cell) => cell.token >= "
            "least)",
            arg=int(large.valid.sum()) - 9,
        )
        assert page.locator("main .cell").count() < 2500
        assert all(values(page, sequence=63)), "painted as it came near"
