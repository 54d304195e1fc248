"""The documentation site builds without a warning, and no link in it leads nowhere. No network."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("act", "halting", "training", "docs", "examples", "ds_configs", "tools")


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        self.links += [found[name] for name in ("href", "src") if name in found]


def dangling(site: Path) -> list[str]:
    """The links of a site that lead nowhere, each with its page. One that leaves the site, into
    the clone around it, has to find a file there."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are from the root of a server
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = target.exists()
            if there and parts.fragment and target in pages:
                there = unquote(parts.fragment) in pages[target].anchors | {"__skip"}
            if not there:
                wrong.append(f"{path.relative_to(site)}: {link}")
    return sorted(set(wrong))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the clone keeps no site."""
    pytest.importorskip("zensical", reason="pip install 'ponderloop[docs]'")
    pytest.importorskip("mkdocstrings", reason="pip install 'ponderloop[docs]'")
    source = tmp_path_factory.mktemp("site") / "source"
    for name in NEEDED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml", ROOT / "LICENSE"]:
        shutil.copy(path, source)
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    ended = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return source / "site"


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.M))
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    of_one_rule = {page for page in pages if page.startswith("rules/")}
    assert pages - of_one_rule == listed


def test_no_link_leads_nowhere(site: Path):
    assert dangling(site) == []


def test_the_api_pages_come_from_the_docstrings(site: Path):
    for package, name in (("halting", "GravesACT"), ("act", "Recurrence"), ("training", "Run")):
        html = (site / "api" / package / "index.html").read_text(encoding="utf-8")
        anchors = Page(html).anchors
        assert any(anchor.endswith(f".{name}") for anchor in anchors), sorted(anchors)[:20]


def test_formulas_become_mathml(site: Path):
    html = (site / "halting_rules" / "index.html").read_text(encoding="utf-8")
    assert html.count("<math") > 40
    assert html.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 1
    for page in site.rglob("index.html"):
        formulas = re.findall(r"<math.*?</math>", page.read_text(encoding="utf-8"), flags=re.S)
        unread = [formula for formula in formulas if "\\" in formula or "<mi>&</mi>" in formula]
        assert unread == [], page


def test_the_check_sees_a_link_that_leads_nowhere(tmp_path: Path):
    (tmp_path / "index.html").write_text(
        '<a id="here" href="#here"></a><a href="#gone"></a><a href="b/"></a><a href="c.html"></a>'
        '<a href="https://example.org"></a>'
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text('<a href="../#here"></a><img src="../x.png">')
    assert dangling(tmp_path) == [
        "b/index.html: ../x.png",
        "index.html: #gone",
        "index.html: c.html",
    ]
