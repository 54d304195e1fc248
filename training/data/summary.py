"""What is in a folder of tokens, in words."""

from pathlib import Path

import numpy as np

from halting.errors import UsageError
from training.console.amounts import counted, in_bytes, short_number
from training.console.table import aligned
from training.data.manifest import Manifest
from training.data.splitting import SPLITS
from training.data.token_folder import TokenFolder

_SHOWN = 60
"""Tokens of a document that are shown."""


def summary(folder: Path, manifest: Manifest, document: int | None) -> str:
    """Counts of splits, the tokenizer, what was dropped, and a document's beginning.

    Args:
        folder: of the tokens.
        manifest: of it.
        document: number of the document of the training split to show; None: none.

    Raises:
        UsageError: for a document that is not there.
    """
    values = manifest.values
    rows = []
    for split in SPLITS:
        counts = manifest.split(split)
        rows.append(
            (
                split,
                f"{counts.documents:,}",
                f"{counts.tokens:,}",
                in_bytes(counts.bytes),
                f"{counts.bytes / max(1, counts.tokens):.2f}",
            )
        )
    head = ("", "documents", "tokens", "text", "bytes a token")
    name = values["tokenizer"].get("name", "bytes")
    how = (
        "each document whole, by a hash of its text"
        if values["split_by"] == "document"
        else "the texts cut, one after the other: too few documents for a share each"
    )
    lines = [
        f"{folder}: {counted(values['documents'], 'document')} of "
        f"{counted(len(values['inputs']), 'file')}, "
        f"{counted(values['duplicates'], 'exact duplicate')} and {values['empty']} empty dropped",
        f"tokenizer {name}, {values['vocabulary']:,} tokens, {manifest.dtype}, "
        f"{in_bytes(manifest.size)} on disk; split: {how}",
        "",
        aligned(head, rows),
    ]
    if document is not None:
        lines += ["", *_document(folder, document)]
    return "\n".join(lines)


def _document(folder: Path, number: int) -> list[str]:
    """A document's first tokens."""
    tokens = TokenFolder(folder, str(folder))
    train = tokens.split("train")
    documents = len(train.bytes)
    if not 0 <= number < documents:
        raise UsageError(
            f"--document {number}.",
            f"The training split of {folder} has {counted(documents, 'document')}.",
            f"Write a number from 0 to {documents - 1}.",
        )
    begin, end = (int(each) for each in train.starts[number : number + 2])
    shown = np.asarray(train.tokens[begin + 1 : min(end, begin + 1 + _SHOWN)]).tolist()
    texts = tokens.tokenizer.shown(shown)
    text = "|".join(each.replace("\n", "⏎").replace("\t", "⇥") for each in texts)
    more = " …" if end - begin - 1 > _SHOWN else ""
    size = in_bytes(int(train.bytes[number]))
    return [
        f"document {number} of training, {short_number(end - begin)} tokens, {size}:",
        text + more,
    ]
