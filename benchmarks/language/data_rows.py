"""Data: what it takes to prepare a corpus, and to read rows of tokens beside a training."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.report import Figure, Table
from benchmarks.harness.rows import Row, Rows
from benchmarks.language.corpus import make_corpus
from benchmarks.language.watched import watch
from training.build import build_task
from training.data.manifest import read_manifest
from training.recipes.load import load_recipe

CODE = ("benchmarks/language", "benchmarks/harness", "training", "act", "halting")
TOKENIZERS = ("bpe:8192", "bytes")
MOST_MEMORY = 500e6
LEAST_RATIO = 20.0
_WORKERS = 2


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        corpus: bytes of the corpus.
        updates: of the training.
        seconds: that rows are read for.
    """

    corpus: int = 1_000_000_000
    updates: int = 60
    seconds: float = 10.0


QUICK = Size(2_000_000, 4, 0.2)


def ponder(*words: str) -> tuple[str, ...]:
    """A verb in a process of its own."""
    return (sys.executable, "-m", "training.cli.main", *words)


def measure(rows: Rows, size: Size, tokenizers: Sequence[str] = TOKENIZERS) -> list[Row]:
    """The rows of each tokenizer; only those that are missing are measured."""
    keys = [{"part": "data", "tokenizer": name, "corpus": size.corpus} for name in tokenizers]
    found = [rows.find(**key) for key in keys]
    if None not in found:
        return [row for row in found if row is not None]
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch, "corpus")
        make_corpus(corpus, size.corpus)
        measured = []
        for key, row in zip(keys, found, strict=True):
            if row is None:
                print(f"preparing {size.corpus / 1e6:.0f} MB as {key['tokenizer']} …", flush=True)
                values = _measured(corpus, Path(scratch, "tokens"), key["tokenizer"], size)
                row = rows.add({**key, **values})
            measured.append(row)
        return measured


def _measured(corpus: Path, out: Path, tokenizer: str, size: Size) -> Row:
    words = (str(corpus), "--out", str(out), "--tokenizer", tokenizer)
    done = watch(
        ponder("data", "prepare", *words, "--workers", str(_WORKERS), "--overwrite", "--quiet")
    )
    if done.code:
        return {"failed": done.output[-400:]}
    counts = read_manifest(out, str(out)).split("train")
    row = {
        "peak_bytes": done.peak,
        "seconds": round(done.seconds, 1),
        "processor_seconds": round(done.processor_seconds, 1),
        "train_tokens": counts.tokens,
    }
    loaded = _loaded(out, size.seconds)
    trained = _trained(out, size.updates)
    if isinstance(trained, str):
        return row | {"failed": trained}
    return row | {"loader_rate": round(loaded), "trainer_rate": round(trained)}


def _loaded(folder: Path, seconds: float) -> float:
    """Tokens a second that the recipe's rows are made at, in random order over the whole folder."""
    config = load_recipe("lm")
    options = {**config.data.options, "folder": [str(folder)]}
    task = build_task(config.replace(data=config.data.replace(options=options)))
    task.batch("train", 0, config.batch_size)
    begun = time.perf_counter()
    tokens = index = 0
    while time.perf_counter() - begun < seconds:
        batch = task.batch("train", index, config.batch_size)
        index += config.batch_size
        tokens += int(batch.valid.sum())
    return tokens / (time.perf_counter() - begun)


def _trained(folder: Path, updates: int) -> float | str:
    """Tokens a second of updates alone, in a training of the recipe; what went wrong, if it did."""
    with tempfile.TemporaryDirectory() as scratch:
        few = ("--updates", str(updates), "--eval-every", str(updates), "--eval-examples", "16")
        done = watch(
            ponder(
                *("train", "lm", "--data.folder", str(folder), "--output", scratch),
                *("--name", "run", "--test-examples", "16", *few),
            )
        )
        if done.code:
            return done.output[-400:]
        lines = Path(scratch, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        rates = sorted(line["tokens_per_second"] for line in found if "tokens_per_second" in line)
        return rates[len(rates) // 2]


def table(rows: Sequence[Row]) -> Table:
    """A line a tokenizer."""
    head = ("tokenizer", "MB", "s", "processor s", "peak MB", "loader tok/s", "trainer tok/s")
    lines = [
        (
            str(row["tokenizer"]),
            f"{row['corpus'] / 1e6:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['processor_seconds']:.0f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['loader_rate']:,}",
            f"{row['trainer_rate']:,}",
        )
        for row in rows
        if "failed" not in row
    ]
    return head, lines


def against_targets(rows: Sequence[Row]) -> list[Figure]:
    """Peak memory, and how much faster rows are made than they are trained on."""
    whole = [row for row in rows if "failed" not in row]
    peak = max((row["peak_bytes"] for row in whole), default=None)
    ratios = [row["loader_rate"] / row["trainer_rate"] for row in whole]
    least = min(ratios, default=None)
    return [
        Figure(
            "preparing a corpus: peak memory, MB",
            None if peak is None else round(peak / 1e6, 1),
            f"≤ {MOST_MEMORY / 1e6:.0f}",
            peak is not None and peak <= MOST_MEMORY,
        ),
        Figure(
            "loader ÷ trainer, tokens a second at the recipe lm",
            None if least is None else round(least, 1),
            f"≥ {LEAST_RATIO:.0f}",
            least is not None and least >= LEAST_RATIO,
        ),
    ]
