"""Fails where a source file has over 400 lines, as a file is one noun, and 50 to 250 lines say it;
and where a folder of the product lists over 25 names.

Run as `python tools/check_file_length.py [FOLDER]`. Files that say "@generated" in their first
lines are left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 400
NAMES = 25
PRODUCT = ("act", "halting", "training")
SUFFIXES = {".css", ".html", ".js", ".py", ".sh", ".toml"}
NOT_OURS = {"build", "dist", "runs", "site"}


def sources(root: Path) -> Iterator[Path]:
    """Every source file below a folder; hidden folders, build outputs and run folders are no
    sources."""
    for path in sorted(root.iterdir()):
        if path.is_dir():
            if path.name not in NOT_OURS and not path.name.startswith("."):
                yield from sources(path)
        elif path.suffix in SUFFIXES:
            yield path


def too_long(root: Path) -> list[tuple[Path, int]]:
    """The files over the limit, with their numbers of lines."""
    found = []
    for path in sources(root):
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > LIMIT and not any("@generated" in line for line in lines[:5]):
            found.append((path, len(lines)))
    return found


def too_full(root: Path) -> list[tuple[Path, int]]:
    """The folders of the product that list too many names, with how many; caches don't count."""
    found = []
    for package in PRODUCT:
        for folder in [root / package, *sorted((root / package).rglob("*/"))]:
            if folder.name == "__pycache__" or not folder.is_dir():
                continue
            names = [path for path in folder.iterdir() if path.name != "__pycache__"]
            if len(names) > NAMES:
                found.append((folder, len(names)))
    return found


def main(argv: list[str]) -> int:
    root = Path(argv[0]) if argv else Path(__file__).resolve().parent.parent
    long = too_long(root)
    for path, lines in long:
        print(
            f"{path.relative_to(root)}: {lines} lines. The limit is {LIMIT}: find the second noun "
            "and give it a file."
        )
    full = too_full(root)
    for path, names in full:
        print(
            f"{path.relative_to(root)}: {names} names. The limit is {NAMES}: find the second room "
            "and give it a folder."
        )
    return 1 if long or full else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
