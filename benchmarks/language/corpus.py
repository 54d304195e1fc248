"""A corpus of any size, made of Python's own standard library: no document like another."""

import json
import random
import sysconfig
from pathlib import Path

_LINES = 120
"""Lines of a document at the most."""


def make_corpus(folder: Path, size: int, files: int = 8, seed: int = 0) -> int:
    """Writes .jsonl files whose documents are runs of lines of the standard library's source, each
    with some words exchanged; one in a hundred is there twice. Gives the number of documents.

    Args:
        folder: to write to.
        size: bytes, of all files together.
        files: how many.
        seed: of the choice.
    """
    library = Path(sysconfig.get_path("stdlib"))
    sources = []
    for path in sorted(library.rglob("*.py")):
        if "site-packages" not in path.parts and "test" not in path.parts:
            sources.append(path.read_text("utf-8", "ignore").splitlines(keepends=True))
    sources = [lines for lines in sources if len(lines) > 20]
    draw = random.Random(seed)
    number = 0
    folder.mkdir(parents=True, exist_ok=True)
    for each in range(files):
        written = 0
        line = ""
        with open(folder / f"part-{each:03d}.jsonl", "w", encoding="utf-8") as file:
            while written < size // files:
                if not line or draw.random() > 0.01:
                    line = json.dumps({"text": _document(draw, sources, number)}) + "\n"
                written += file.write(line)  # ASCII: a character is a byte
                number += 1
    return number


def _document(draw: random.Random, sources: list[list[str]], number: int) -> str:
    lines = draw.choice(sources)
    begin = draw.randrange(len(lines))
    text = "".join(lines[begin : begin + draw.randint(5, _LINES)])
    for _ in range(4):
        word = draw.choice(("self", "return", "import", "if", "=", "(", "the"))
        text = text.replace(f" {word} ", f" {word}{draw.randrange(10_000)} ", 1)
    return f"# {number}\n{text}"
