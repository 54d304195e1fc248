"""A browser for the tests is found or installed; where none can be had, CI fails and a person's
tests are skipped."""

from collections.abc import Callable
from pathlib import Path

import browser
import pytest
from browser_page import started


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """No browser on the path, where systems keep it, or downloaded; and none can be installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(browser, "_ELSEWHERE", ())
    monkeypatch.setattr(browser, "install", lambda: "no network")
    return lambda ci: monkeypatch.setenv("CI", ci)


def test_a_browser_on_the_path_is_found(nowhere: Callable[[str], None], tmp_path: Path) -> None:
    assert browser.find() is None
    program = tmp_path / "google-chrome"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert browser.find() == str(program) and browser.main() == 0


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0), ("false", 0)])
def test_only_ci_insists_on_one(
    nowhere: Callable[[str], None], capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    nowhere(ci)
    assert browser.main() == code
    assert "no network" in capsys.readouterr().err
    wanted = pytest.fail.Exception if code else pytest.skip.Exception
    with pytest.raises(wanted, match="no Chromium or Chrome"), started():
        pass
