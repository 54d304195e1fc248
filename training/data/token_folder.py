"""A folder of tokens, memory-mapped."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import TOKENIZER, Manifest, read_manifest
from training.data.token_writer import FILES
from training.data.tokenizer import Bytes, Learned, Tokenizer


class TokenSplit:
    """The tokens of one split. Each document is a mark and its tokens; the mark of the first
    follows the last token, so that every token has one that comes next.

    Args:
        folder: of the files.
        name: "train", "validation" or "test".
        dtype: of a token.

    Attributes:
        tokens: [N], of all documents, with their marks.
        starts: [D + 1] uint64, where each document begins; N last.
        bytes: [D] uint64, of each document's text.
    """

    def __init__(self, folder: Path, name: str, dtype: str):
        little = np.dtype(dtype).newbyteorder("<")
        paths = {key: folder / form.format(split=name) for key, form in FILES.items()}
        self.tokens: NDArray[Any] = np.memmap(paths["tokens"], little, "r")
        self.starts: NDArray[np.uint64] = np.memmap(paths["starts"], "<u8", "r")
        self.bytes: NDArray[np.uint64] = np.memmap(paths["bytes"], "<u8", "r")


class TokenFolder:
    """What `ponder data prepare` made. Files are mapped when they are asked for, and not copied
    along.

    Args:
        folder: of the files.
        asked: what a person named, for messages.

    Raises:
        UsageError: as `read_manifest` does.
    """

    def __init__(self, folder: Path, asked: str):
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder, asked)
        self._splits: dict[str, TokenSplit] = {}

    def split(self, name: str) -> TokenSplit:
        """The tokens of a split."""
        if name not in self._splits:
            self._splits[name] = TokenSplit(self.folder, name, self.manifest.dtype)
        return self._splits[name]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Text to these tokens and back."""
        return tokenizer_of(self.folder, self.manifest)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_splits": {}}


def tokenizer_of(folder: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer that a folder's tokens were made with."""
    told = manifest.values["tokenizer"]
    if told["kind"] == "bytes":
        return Bytes()
    text = (folder / TOKENIZER).read_text(encoding="utf-8")
    return Learned(text, told["name"], manifest.values["mark"])
