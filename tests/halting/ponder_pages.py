"""A small map for pages to show, and what a person does and reads there."""

from dataclasses import replace
from typing import Any

import numpy as np
from fabricated_maps import fabricate
from playwright.sync_api import Page

from halting import PonderMap

SMALL = fabricate(4, 12, 10)


def changed(shift: int = 1, **metadata: Any) -> PonderMap:
    """SMALL as another run would do it: some tokens take more steps, each third is right."""
    steps = np.where(SMALL.valid, np.clip(SMALL.steps + shift * (np.arange(12) % 3 == 0), 1, 10), 0)
    right = np.where(np.arange(12) % 3 == 1, SMALL.targets, SMALL.final_prediction)
    return replace(
        SMALL, steps=steps, final_prediction=right, metadata={**SMALL.metadata, **metadata}
    )


def choose(page: Page, mode: str) -> None:
    page.locator(f"#modes input[value={mode}]").check(force=True)


def slide(page: Page, name: str, value: int) -> None:
    """Moves a slider and waits until it is drawn."""
    page.locator(f"#{name}").fill(str(value))
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def values(page: Page, pane: int = 0, sequence: int = 0) -> list[str]:
    """What the cells of a strip say below their tokens."""
    strip = page.locator(".sequence").nth(sequence).locator(".strip").nth(pane)
    return strip.locator(".cell span").all_text_contents()


def marked(texts: list[str], wrong: np.ndarray) -> list[str]:
    return [f"✗{text}" if is_wrong else text for text, is_wrong in zip(texts, wrong, strict=True)]
