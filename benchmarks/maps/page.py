"""`python -m benchmarks.maps.page`: how fast the page of a large ponder map opens and follows its
slider, in a headless browser.

64 sequences of 512 tokens and 32 steps, at three widths of the window. Beside the time of a move
stands the processor time that all of the browser's processes took for it, which other work on the
machine hardly changes. Exits 1 where a target is missed, 2 where there is no browser.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.harness.cli import finish, make_parser
from benchmarks.harness.hardware import hardware
from benchmarks.harness.report import Figure
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.page.page import to_html
from tools import browser
from training.console.entry import run_entry

SEQUENCES = 64
QUICK_SEQUENCES = 4
LENGTH = 512
STEPS = 32
WINDOWS = ((360, 740), (1280, 900), (1920, 1080))
REPEATS = 5
_SLIDE = """async () => {
  const slider = document.getElementById("step");
  const times = [];
  for (let step = 1; step <= Number(slider.max); step++) {
    const start = performance.now();
    slider.value = step;
    slider.dispatchEvent(new Event("input"));
    // After it is painted.
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    times.push(performance.now() - start);
  }
  return times;
}"""


def large_map(sequences: int) -> PonderMap:
    """A map of random numbers, which nothing can compress."""
    random = np.random.default_rng(0)
    shape = (sequences, LENGTH, STEPS)
    steps = random.integers(1, STEPS + 1, shape[:2], dtype=np.int16)
    ran = np.arange(STEPS) < steps[..., None]
    mass = random.random(shape, np.float32) * ran
    tokens, targets, said = random.integers(0, 256, (3, *shape[:2]), dtype=np.int32)
    return PonderMap(
        tokens=tokens,
        texts=[[chr(33 + token) for token in row] for row in tokens],
        valid=np.ones(shape[:2], bool),
        steps=steps,
        ponder=steps.astype(np.float32),
        mass=mass / mass.sum(-1, keepdims=True),
        score=np.where(ran, random.random(shape, np.float32), np.float32(np.nan)),
        predictions=np.where(ran, random.integers(0, 256, shape, dtype=np.int32), np.int32(-1)),
        confidence=np.where(ran, random.random(shape, np.float32), np.float32(np.nan)),
        target_probability=np.where(ran, random.random(shape, np.float32), np.float32(np.nan)),
        targets=targets,
        final_prediction=said,
        metadata={"run": "random", "answers": [chr(33 + token) for token in range(256)]},
    )


def measure(chromium: Browser, path: Path, width: int, height: int) -> list[Figure]:
    """Opening, and the slider in two modes, in a window of this size."""
    page = chromium.new_page(viewport={"width": width, "height": height})
    opened = []
    for _ in range(REPEATS):
        page.goto("about:blank")
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("main .cell")
        opened.append(time.perf_counter() - start)
    found = [Figure(f"{width} px: opens, s", round(median(opened), 3), "< 2", median(opened) < 2)]
    for mode in ("steps", "prediction"):
        found += _slides(page, mode, width)
    page.close()
    return found


def _slides(page: Page, mode: str, width: int) -> list[Figure]:
    page.locator(f"#modes input[value={mode}]").check(force=True)
    before = _processor_seconds()
    times = [milliseconds for _ in range(REPEATS) for milliseconds in page.evaluate(_SLIDE)]
    processor = 1000 * (_processor_seconds() - before) / len(times)
    name = f"{width} px: a move of the slider in {mode} mode"
    most = f"19 of 20 take less than {np.quantile(times, 0.95):.0f}"
    return [
        Figure(f"{name}, ms ({most})", round(median(times), 1), "< 50", median(times) < 50),
        Figure(f"{name}, ms of processor time", round(processor, 1), "< 50", processor < 50),
    ]


def _processor_seconds() -> float:
    """Of this process's children and theirs: the browser."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += child.cpu_times().user + child.cpu_times().system
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 when a target is missed, 2 where there is no browser."""
    parser = make_parser(
        "maps.page", __doc__, quick="a small map, one width of the window", rows=False
    )
    options = parser.parse_args(argv)
    program = browser.find()
    if program is None:
        print(
            "error: there is no Chromium or Chrome; python tools/browser.py installs one",
            file=sys.stderr,
        )
        return 2
    print(", ".join(f"{name} {value}" for name, value in hardware().items()))
    start = time.perf_counter()
    text = to_html(large_map(QUICK_SEQUENCES if options.quick else SEQUENCES))
    print(f"written in {time.perf_counter() - start:.2f} s, {len(text) / 1e6:.1f} MB")
    figures = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder, "page.html")
        path.write_text(text, encoding="utf-8")
        chromium = playwright.chromium.launch(executable_path=program, args=list(browser.FLAGS))
        print(f"Chromium {chromium.version}")
        for width, height in WINDOWS[:1] if options.quick else WINDOWS:
            figures += measure(chromium, path, width, height)
        chromium.close()
    return finish(options, figures)


if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
