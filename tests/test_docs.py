"""What the documents name is there: tests that hold a trap, and pages that are linked to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "ds_configs").glob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
    ]
)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text())
}
TESTS |= {
    name
    for path in (ROOT / "act" / "testing").glob("*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text())
}


def missing_tests(text: str) -> list[str]:
    return sorted(
        name for name in set(re.findall(r"`(?:\S+::)?(test_\w+)`", text)) if name not in TESTS
    )


def missing_pages(text: str, folder: Path) -> list[str]:
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    return [link for link in found if "://" not in link and not (folder / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    assert missing_tests(text) == []
    assert missing_pages(text, page.parent) == []


def test_the_checks_see_what_is_missing(tmp_path: Path):
    text = (
        "Held by `test_that_nobody_wrote` and `tests/test_docs.py::test_what_a_page_names_exists`; "
        "[here](nowhere.md)."
    )
    assert missing_tests(text) == ["test_that_nobody_wrote"] and missing_pages(text, tmp_path) == [
        "nowhere.md"
    ]
