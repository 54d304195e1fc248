"""`ponder data`: folders of tokens made of texts, and what is in them."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from halting.errors import UsageError
from training.console.screen import standard_screen
from training.data.manifest import read_manifest
from training.data.prepare import Request, prepare
from training.data.segments import Reading
from training.data.splitting import Shares
from training.data.summary import summary

_VERBS = ("prepare", "show")


@dataclass(frozen=True)
class PrepareOptions:
    """Makes a folder of tokens, for `ponder train lm --data.folder DIR`. Exact duplicates are
    dropped; a command that was killed goes on when it is written again."""

    corpora: Annotated[tuple[str, ...], tyro.conf.Positional]
    """text files, .jsonl and .parquet files, all of these as .gz or .zst, folders, 'patterns/*', or
    datasets:NAME of the hub"""
    out: Path
    """the folder to make"""
    tokenizer: str = "bytes"
    """bytes, bpe:SIZE (learned from a sample of the training texts), or the path of a
    tokenizer.json"""
    field: str = "text"
    """which value of a line of JSON, or column, is the text"""
    separator: str | None = None
    r"""what divides a text file into documents, such as '\n\n' (blank lines) or '\n' (a line
    each); a file is one if left out"""
    split: tuple[float, float, float] = (90, 5, 5)
    """the shares of training, validation and test"""
    errors: Literal["strict", "replace", "skip"] = "strict"
    """bytes that are not UTF-8, and NULs: refuse them, write U+FFFD for them, or drop them"""
    sample: int = 32
    """MiB of text that a vocabulary is learned from"""
    seed: int = 0
    """of that sample"""
    workers: int = os.cpu_count() or 1
    """processes that make tokens"""
    overwrite: bool = False
    """replace a folder of tokens that is there, and unfinished work of another command"""
    quiet: bool = False
    """warnings, and how it ended, alone"""


@dataclass(frozen=True)
class ShowOptions:
    """What is in a folder of tokens: counts, sizes, and the beginning of a document."""

    folder: Annotated[Path, tyro.conf.Positional]
    """that `ponder data prepare` made"""
    document: int = 0
    """the number of the document of the training split to show"""


def main(argv: Sequence[str]) -> int:
    """Prepares or shows; gives the exit code."""
    verb = argv[0] if argv else "--help"
    if verb in ("-h", "--help"):
        for name in _VERBS:
            with suppress(SystemExit):
                main([name, "--help"])
        return 0
    if verb not in _VERBS:
        raise UsageError(
            f"ponder data {verb}.",
            f"What can be done with data is {' and '.join(_VERBS)}.",
            "Write ponder data prepare CORPUS --out DIR, or ponder data show DIR.",
        )
    if verb == "show":
        shown = tyro.cli(
            ShowOptions,
            args=list(argv[1:]),
            prog="ponder data show",
            description=ShowOptions.__doc__,
        )
        manifest = read_manifest(shown.folder, str(shown.folder))
        print(summary(shown.folder, manifest, shown.document))
        return 0
    options = tyro.cli(
        PrepareOptions,
        args=list(argv[1:]),
        prog="ponder data prepare",
        description=PrepareOptions.__doc__,
    )
    return _prepare(options)


def _prepare(options: PrepareOptions) -> int:
    for name, value in (("sample", options.sample), ("workers", options.workers)):
        if value < 1:
            raise UsageError(
                f"--{name} {value}.", "Without any, nothing is done.", f"Write --{name} 1 or more."
            )
    separator = options.separator
    if separator is not None:
        separator = separator.replace("\\n", "\n").replace("\\t", "\t")
        if not separator:
            raise UsageError(
                "--separator is empty.",
                "It stands between documents.",
                r"Write one, such as --separator '\n\n', or leave it out.",
            )
    request = Request(
        options.corpora,
        options.out,
        options.tokenizer,
        Reading(options.field, separator, options.errors),
        Shares(options.split),
        options.sample << 20,
        options.seed,
    )
    screen = standard_screen(0, options.quiet)
    manifest = prepare(request, screen, workers=options.workers, overwrite=options.overwrite)
    screen.clear()
    screen.say(summary(options.out, manifest, None), always=True)
    screen.say(f"train on it: ponder train lm --data.folder {options.out}")
    return 0
