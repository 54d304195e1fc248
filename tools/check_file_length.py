"""Fails where a source file has over 400 lines: a file is one noun, and 50 to 250 lines say it.

Run as `python tools/check_file_length.py [FOLDER]`. Files that say "@generated" in their first
lines are left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 400
SUFFIXES = {".css", ".html", ".js", ".py", ".sh", ".toml"}
NOT_OURS = {"build", "dist", "runs"}


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


def main(argv: list[str]) -> int:
    root = Path(argv[0]) if argv else Path(__file__).resolve().parent.parent
    found = too_long(root)
    for path, lines in found:
        print(
            f"{path.relative_to(root)}: {lines} lines. The limit is {LIMIT}: find the second noun "
            "and give it a file."
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
