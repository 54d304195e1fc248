"""One headless browser for the tests of a module, and pages that may neither complain nor reach for
anything."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browser
import pytest
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def started() -> Iterator[Browser]:
    """A headless Chromium; without one the tests are skipped, and fail where CI=true."""
    program = browser.find()
    if program is None:
        reason = "no Chromium or Chrome: python tools/browser.py installs one"
        if browser.must_be_there():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(browser.FLAGS))
        yield chromium
        chromium.close()


@contextmanager
def watched(
    chromium: Browser, allowed: str, expected: str = "\0", **context: Any
) -> Iterator[Page]:
    """A page that must make no request but to addresses that begin with `allowed`, write nothing to
    the console but what holds the `expected` words, and raise nothing."""
    opened = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    page = opened.new_page()
    wrong = _COMPLAINTS[page] = []
    page.set_default_timeout(60_000)
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((allowed, "data:")) else wrong.append(request.url)
        ),
    )
    page.on(
        "console", lambda message: None if expected in message.text else wrong.append(message.text)
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield page
    opened.close()
    refuse_complaints(page)


_COMPLAINTS: dict[Page, list[str]] = {}


def refuse_complaints(page: Page) -> None:
    """Fails for all that a watched page did wrong so far, and forgets it."""
    wrong = _COMPLAINTS[page][:]
    _COMPLAINTS[page].clear()
    assert wrong == []


@contextmanager
def file_opener(chromium: Browser, folder: Path) -> Iterator[Callable[..., Any]]:
    """Opens HTML texts as files, as a person would:
    `with opener(text, color_scheme="dark") as page`. All in one page, which is quicker than one for
    each; `page.clock` would outlive a test, so it is for pages of their own."""
    with watched(chromium, folder.as_uri()) as page:

        @contextmanager
        def open_text(
            text: str, width: int = 1280, height: int = 900, color_scheme: Any = "light"
        ) -> Iterator[Page]:
            path = folder / f"{abs(hash(text))}.html"
            path.write_text(text, encoding="utf-8")
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=color_scheme)
            page.mouse.move(0, 0)
            page.goto(path.as_uri())
            page.wait_for_selector("#legend .scale")
            yield page
            refuse_complaints(page)

        yield open_text
