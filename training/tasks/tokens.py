"""Next-token prediction over folders of tokens that `ponder data prepare` made."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halting.errors import UsageError
from training.console.amounts import counted, in_bytes, short_number
from training.data.mixture import Mixture, Places
from training.data.permutation import key_of
from training.data.token_folder import TokenFolder, TokenSplit
from training.data.tokenizer import Tokenizer, of_values
from training.tasks.data_identity import DataIdentity, FileDigest
from training.tasks.kept_data import KeptData
from training.tasks.options import require_at_least
from training.tasks.task import IGNORE, SPLITS, Batch, Task

_PREPARE = (
    "Write ponder data prepare TEXTS --out data/mine --tokenizer bpe:4096, where TEXTS are files "
    "or folders, then --data.folder data/mine."
)
_SHIFT = 1 << 32  # tells the key of an epoch's shift from those of its order


class Tokens(Task):
    """The answer at each position is the token that comes next. Its difficulty is not known (NaN).

    A document is a mark and its tokens: the mark predicts its first token, and its last token
    predicts the mark of the next one, which is where it ends. With `pack`, rows are cut from the
    documents one after the other and are full; each position carries the number of its document,
    and sees no other. Without, a row is one document from its beginning: padded where it is short,
    and what is beyond `length` of a long one is never read.

    Rows come in an order that is a function of the seed and the epoch, stored nowhere: every token
    is asked for once an epoch, whatever ranks and accumulation there are. Where rows are cut moves
    with each epoch of training. Validation and test have one order, whatever the seed, so that the
    first examples are a fixed random sample.

    Args:
        folder: one or more, of one tokenizer.
        weights: how often each folder is read in training, beside the others; as often as it has
            rows where none are given.
        length: L, tokens of a row.
        pack: on: rows of several documents; off: a document a row.
        seed: of the order.
        kept_data: of the run that is read back; its folders have to be the same.

    Raises:
        UsageError: where no folder is given, for what is none, for folders of different tokenizers,
            for weights that do not fit them, and for a length below 2.
    """

    causal = True
    path_options = ("folder",)

    def __init__(
        self,
        folder: tuple[str, ...] = (),
        weights: tuple[float, ...] | None = None,
        length: int = 256,
        pack: Literal["on", "off"] = "on",
        seed: int = 0,
        kept_data: KeptData | None = None,
    ):
        require_at_least(2, "length", length, "With less there is no context to predict from.")
        self.folder = folder
        self.weights = weights
        self.length = length
        self.pack = pack
        self.seed = seed
        self.max_length = length
        self.kept_data = kept_data
        if weights is not None and len(weights) != len(folder):
            raise UsageError(
                f"--data.weights has {counted(len(weights), 'number')} for "
                f"{counted(len(folder), 'folder')}.",
                "Each folder has a weight of its own.",
                "Write as many, or none: folders are read as often as they have rows then.",
            )
        if kept_data is None or kept_data.vocabulary is None:
            self.tokenizer = self._folders[0].tokenizer
        else:
            self.tokenizer: Tokenizer = of_values(kept_data.vocabulary)
        self.vocab_size = self.tokenizer.vocab_size
        self._mixtures: dict[str, Mixture] = {}
        if kept_data is None:
            self._mixture("train")  # weights that cannot be are refused at once

    @cached_property
    def _folders(self) -> list[TokenFolder]:
        if not self.folder:
            raise UsageError("There is no --data.folder.", "Tokens come from folders.", _PREPARE)
        folders = []
        for name in self.folder:
            path = Path(name).expanduser()
            if not path.is_dir():
                raise UsageError(
                    f"--data.folder {name} is not a folder.",
                    "It is what ponder data prepare makes of texts.",
                    _PREPARE,
                )
            folders.append(TokenFolder(path, f"--data.folder {name}"))
        first, *others = (each.manifest.values for each in folders)
        for name, other in zip(self.folder[1:], others, strict=True):
            ours, theirs = (each["tokenizer"].get("sha256") for each in (first, other))
            if (ours, first["mark"]) != (theirs, other["mark"]):
                raise UsageError(
                    f"--data.folder {name} has another tokenizer than {self.folder[0]}.",
                    "A token would mean one text here and another one there.",
                    f"Prepare it with --tokenizer {self.folder[0]}/tokenizer.json."
                    if ours is not None
                    else "Prepare it with --tokenizer bytes.",
                )
        found = _identity(folders)
        if self.kept_data is not None:
            self.kept_data.check(found)
        return folders

    def identity(self) -> DataIdentity:
        return _identity(self._folders)

    def vocabulary(self) -> Any:
        return self.tokenizer.values()

    def says(self) -> str:
        counts = [each.manifest.split("train") for each in self._folders]
        tokens = sum(each.tokens for each in counts)
        rows = int(self._mixture("train").sizes.sum())
        text = in_bytes(sum(each.bytes for each in counts))
        return f"{short_number(tokens)} tokens of {text} to train on, {rows:,} rows an epoch"

    def warnings(self) -> tuple[str, ...]:
        if self.pack == "on":
            return ()
        cut = documents = 0
        for folder in self._folders:
            lengths = np.diff(folder.split("train").starts)
            cut += int((lengths > self.length).sum())
            documents += len(lengths)
        if not cut:
            return ()
        return (
            f"{cut:,} of {documents:,} documents have more than --data.length {self.length} tokens "
            "(with --data.pack off the rest of each is never read)",
        )

    def batch(self, split: str, index: int, size: int) -> Batch:
        numbers = np.arange(index, index + size, dtype=np.uint64)
        places = self._mixture(split).places(numbers)
        windows = np.full((size, self.length + 1), self.tokenizer.mark, dtype=np.int64)
        lengths = np.zeros(size, dtype=np.int64)
        for number in np.unique(places.source).tolist():
            chosen = np.flatnonzero(places.source == number)
            tokens = self._folders[number].split(split)
            read = self._packed if self.pack == "on" else self._alone
            windows[chosen], lengths[chosen] = read(split, number, tokens, places, chosen)
        window = torch.from_numpy(windows)
        inputs = window[:, :-1].contiguous()  # [B L]
        valid = torch.arange(self.length) < torch.from_numpy(lengths).unsqueeze(1)
        documents = None
        if self.pack == "on":
            documents = (inputs == self.tokenizer.mark).long().cumsum(1)
            documents = torch.where(valid, documents, 0)
        return Batch(
            torch.where(valid, inputs, 0),
            torch.where(valid, window[:, 1:], IGNORE),
            valid,
            torch.full((size, self.length), torch.nan),
            documents=documents,
        )

    def document_numbers(self, split: str, index: int, size: int) -> Tensor:
        """[B L] int64, counted over all folders; anything on padding."""
        places = self._mixture(split).places(np.arange(index, index + size, dtype=np.uint64))
        numbers = np.zeros((size, self.length), dtype=np.int64)
        before = 0
        for number, folder in enumerate(self._folders):
            tokens = folder.split(split)
            chosen = np.flatnonzero(places.source == number)
            if self.pack == "on":
                begin = self._begins(split, number, len(tokens.tokens), places, chosen)
                found = (begin[:, None] + np.arange(self.length)) % len(tokens.tokens)
                own = np.searchsorted(tokens.starts, found.astype(np.uint64), "right") - 1
            else:
                own = places.row[chosen].astype(np.int64)[:, None]
            numbers[chosen] = before + own
            before += len(tokens.starts) - 1
        return torch.from_numpy(numbers)

    def target_bytes(self, split: str, targets: Tensor) -> Tensor:
        table = torch.from_numpy(self._byte_table(split)).to(targets.device)
        asked = targets != IGNORE
        return torch.where(asked, table[torch.where(asked, targets, 0)], 0.0)

    def encode(self, text: str) -> list[int]:
        """The mark, and the tokens of a text; bytes of a command line that are no UTF-8 pass
        through where a token is a byte.

        Raises:
            UsageError: for half of a surrogate pair, which has no bytes.
        """
        try:
            return [self.tokenizer.mark, *self.tokenizer.encode(text).tolist()]
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The text holds {text[error.start]!r} at place {error.start}.",
                "It is half of a surrogate pair, which UTF-8 cannot write.",
                "Drop it, or write the whole character.",
            ) from None

    def decode(self, tokens: list[int]) -> list[str]:
        r"""The text of each token, bytes of a part of a character as \xNN; <end> for the mark."""
        return self.tokenizer.shown(tokens)

    def _mixture(self, split: str) -> Mixture:
        if split not in SPLITS:
            raise UsageError(
                f"There is no split {split!r}.", f"There are {', '.join(SPLITS)}.", "Write one."
            )
        if split not in self._mixtures:
            trains = split == "train"
            counts = [each.manifest.split(split) for each in self._folders]
            rows = [
                -(-each.tokens // self.length) if self.pack == "on" else each.documents
                for each in counts
            ]
            self._mixtures[split] = Mixture(
                rows,
                self.weights if trains else None,
                self.seed if trains else 0,
                SPLITS.index(split),
            )
        return self._mixtures[split]

    def _packed(
        self, split: str, source: int, tokens: TokenSplit, places: Places, chosen: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """[M L + 1] tokens from each row's beginning, and [M] how many of them are the row's. The
        tokens are a circle, of which each epoch of training begins elsewhere; the last row has what
        is left."""
        total = len(tokens.tokens)
        begin = self._begins(split, source, total, places, chosen)
        lengths = np.minimum(total - places.row[chosen].astype(np.int64) * self.length, self.length)
        found = (begin[:, None] + np.arange(self.length + 1)) % total
        return tokens.tokens[found], lengths

    def _begins(
        self, split: str, source: int, total: int, places: Places, chosen: NDArray[Any]
    ) -> NDArray[np.int64]:
        """[M] where each row begins on the circle."""
        begin = places.row[chosen].astype(np.int64) * self.length
        if split == "train":
            shift = key_of(self.seed, _SHIFT, source, places.epoch[chosen]) % np.uint64(total)
            begin = begin + shift.astype(np.int64)
        return begin

    def _alone(
        self, split: str, source: int, tokens: TokenSplit, places: Places, chosen: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """[M L + 1] tokens from the beginning of each row's document, the mark after its end; and
        [M] how many of them are the document's."""
        row = places.row[chosen].astype(np.int64)
        begin = tokens.starts[row].astype(np.int64)
        length = tokens.starts[row + 1].astype(np.int64) - begin
        steps = np.arange(self.length + 1)
        found = np.minimum(begin[:, None] + steps, len(tokens.tokens) - 1)
        inside = steps < length[:, None]
        return (
            np.where(inside, tokens.tokens[found], self.tokenizer.mark),
            np.minimum(length, self.length),
        )

    def _byte_table(self, split: str) -> NDArray[np.float64]:
        """[V] how many bytes of text each token stands for: exactly, where its tokenizer says; else
        the mean of the split, marks among them."""
        manifests = [each.manifest for each in self._folders]
        exact = self.tokenizer.byte_lengths
        if exact is not None and all(each.has_exact_bytes for each in manifests):
            return exact.astype(np.float64)
        counts = [each.split(split) for each in manifests]
        mean = sum(each.bytes for each in counts) / sum(each.tokens for each in counts)
        return np.full(self.vocab_size, mean)


def _identity(folders: list[TokenFolder]) -> DataIdentity:
    """Of what the manifests say, whose digests are of all files."""
    digests = {}
    for number, each in enumerate(folders):
        name = "manifest.json" if len(folders) == 1 else f"{number}/manifest.json"
        digests[name] = FileDigest(
            each.manifest.size, each.manifest.digest[:16], each.manifest.digest
        )
    places = ", ".join(str(each.folder.absolute()) for each in folders)
    return DataIdentity(places, digests)
