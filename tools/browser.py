"""Finds a Chromium or Chrome for the tests of the page, or installs one.

Run as `python tools/browser.py`: Debian's package where this is root on a Debian, else playwright's
own download. Where neither can be had it says so, and exits 1 if CI=true, since those tests would
be skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = (
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""What it is started with: it does nothing but show the page."""


def find() -> str | None:
    """The program of a Chromium or Chrome: on the path, where macOS keeps it, or as playwright
    downloaded it."""
    on_path = next((found for name in NAMES if (found := shutil.which(name))), None)
    return (
        on_path
        or next((place for place in _ELSEWHERE if Path(place).is_file()), None)
        or _downloaded()
    )


def install() -> str:
    """Tries to install one; what went wrong, or "" where nothing did."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        packages = ["chromium", "fonts-dejavu-core"]  # a machine without any font draws nothing
        commands = [
            ["apt-get", "update"],
            ["apt-get", "install", "-y", "--no-install-recommends", *packages],
        ]
    else:
        commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    for command in commands:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            ended = subprocess.run(
                command, env=quiet, capture_output=True, text=True, timeout=900, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{' '.join(command)}: no end after 15 minutes"
        if ended.returncode:
            last = (ended.stderr.strip() or ended.stdout.strip() or "it said nothing").splitlines()[
                -1
            ]
            return f"{' '.join(command)}: {last}"
    return ""


def must_be_there() -> bool:
    """Whether tests without a browser are a failure."""
    return os.environ.get("CI", "").lower() == "true"


def _downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def main() -> int:
    if found := find():
        print(f"browser: {found}")
        return 0
    print("browser: none is here; installing one (some minutes)", flush=True)
    why = install()
    if found := find():
        print(f"browser: {found}")
        return 0
    print(
        "browser: there is no Chromium or Chrome, and none could be installed "
        f"({why or 'it is not found even now'}).\n"
        "  why:  the page's tests drive one\n"
        "  fix:  install the chromium package of your system",
        file=sys.stderr,
    )
    return 1 if must_be_there() else 0


if __name__ == "__main__":
    sys.exit(main())
