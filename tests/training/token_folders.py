"""Small folders of tokens, for tests."""

import io
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.console.screen import Screen
from training.data.manifest import Manifest
from training.data.prepare import Request, prepare
from training.data.segments import Reading
from training.data.splitting import Shares

WORDS = ("so", "long", "and", "thanks", "for", "all", "the", "fish", "π", "naïve", "\n", "…")


def texts(number: int, seed: int = 0, most: int = 60) -> list[str]:
    """Texts of a few words, none like another."""
    draw = random.Random(seed)
    return [
        f"{seed}.{each} " + " ".join(draw.choices(WORDS, k=draw.randint(1, most)))
        for each in range(number)
    ]


def write_lines(path: Path, documents: Iterable[str], field: str = "text") -> Path:
    """A .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({field: text}, ensure_ascii=False) + "\n" for text in documents)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def prepared(
    out: Path,
    *corpora: Path | str,
    tokenizer: str = "bytes",
    shares: tuple[float, float, float] = (80, 10, 10),
    reading: Reading | None = None,
    said: io.StringIO | None = None,
    **options: Any,
) -> Manifest:
    """A folder of tokens."""
    request = Request(
        tuple(map(str, corpora)), out, tokenizer, reading or Reading(), Shares(shares)
    )
    return prepare(request, Screen(said), **options)


def folder_of(out: Path, documents: Iterable[str], **options: Any) -> Path:
    """A folder of the tokens of these documents."""
    corpus = write_lines(out.with_name(f"{out.name}.jsonl"), documents)
    prepared(out, corpus, **options)
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of each file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
