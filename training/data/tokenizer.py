"""From text to tokens and back, and how many bytes of text a token stands for."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from training.console.extras import check_extra
from training.console.text_file import read_json

MARK = "<|endoftext|>"
"""The token between documents, in vocabularies that are trained here."""
_MARKS = (MARK, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[EOS]", "[SEP]")
_LEAST = 257  # of a byte-level vocabulary: 256 bytes and the mark
_MOST = 2**24
_AS_THEY_ARE = {"\n", "\t"}


class Tokenizer(ABC):
    """Texts as rows of whole numbers.

    Attributes:
        vocab_size: V, tokens with the mark.
        mark: the token that stands between documents; no text has it.
        name: for people.
    """

    vocab_size: int
    mark: int
    name: str

    @abstractmethod
    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text, whole numbers without the mark."""

    @abstractmethod
    def bytes_of(self, token: int) -> bytes | None:
        """What a token stands for, part of a character perhaps; empty for the mark, None where
        that depends on its neighbours."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """As JSON values: `of_values` makes the same tokenizer of them."""

    @cached_property
    def byte_lengths(self) -> NDArray[np.int32] | None:
        """[V]: how many bytes each token stands for; None where that depends on others."""
        found = [self.bytes_of(token) for token in range(self.vocab_size)]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        return np.array([len(each) for each in known], dtype=np.int32)

    def shown(self, tokens: list[int]) -> list[str]:
        r"""One short printable text a token: newline and tab as they are, other bytes that are no
        printable character as \xNN."""
        return [self._shown(token) for token in tokens]

    def _shown(self, token: int) -> str:
        if token == self.mark:
            return "<end>"
        data = self.bytes_of(token)
        if data is None:
            return f"<{token}>"
        text = data.decode("utf-8", "backslashreplace")
        return "".join(
            letter
            if letter.isprintable() or letter in _AS_THEY_ARE
            else "".join(f"\\x{byte:02x}" for byte in letter.encode())
            for letter in text
        )


class Bytes(Tokenizer):
    """A token a byte of UTF-8. The mark is 0, which no text has."""

    vocab_size = 256
    mark = 0
    name = "bytes"

    def encode(self, text: str) -> NDArray[Any]:
        return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)

    def bytes_of(self, token: int) -> bytes:
        return bytes([token]) if token else b""

    def values(self) -> dict[str, Any]:
        return {"kind": "bytes"}


class Learned(Tokenizer):
    """A tokenizer.json, as the library `tokenizers` reads it. A text that spells a special token,
    such as <|endoftext|>, is text all the same.

    Args:
        json: what the file holds.
        name: for people.
        mark: which token stands between documents; None: the first there is of those that are
            usual, else one more than the vocabulary has.

    Raises:
        UsageError: where the package is missing, and for what is no tokenizer.
    """

    def __init__(self, json: str, name: str = "tokenizer.json", mark: int | None = None):
        check_extra("bpe", f"The tokenizer {name}")
        import tokenizers  # late: an extra

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json)
        except Exception as error:  # noqa: BLE001 (the library raises no narrower one)
            raise UsageError(
                f"{name} is no tokenizer: {error}.",
                "A tokenizer.json is what the library `tokenizers` saves.",
                "Write --tokenizer with such a file, or bpe:8192 to train one.",
            ) from None
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.name = name
        self._json = json
        words = self._tokenizer.get_vocab(with_added_tokens=True)
        size = max(words.values(), default=-1) + 1
        usual = (words[word] for word in _MARKS if word in words)
        self.mark = next(usual, size) if mark is None else mark
        self.vocab_size = max(size, self.mark + 1)

    def encode(self, text: str) -> NDArray[Any]:
        text.encode()  # raises for half of a surrogate pair, which the library has no words for
        encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return np.array(encoded[0].ids, dtype=np.int32)

    def bytes_of(self, token: int) -> bytes | None:
        if token == self.mark:
            return b""
        return self._bytes.get(token, b"") if self._bytes is not None else None

    def values(self) -> dict[str, Any]:
        return {"kind": "tokenizers", "name": self.name, "mark": self.mark, "json": self._json}

    def _shown(self, token: int) -> str:
        if self._bytes is None and token != self.mark:
            return self._tokenizer.id_to_token(token) or f"<{token}>"
        return super()._shown(token)

    @cached_property
    def _bytes(self) -> dict[int, bytes] | None:
        """What each token stands for; None for a vocabulary that is not byte-level."""
        added = self._tokenizer.get_added_tokens_decoder()
        letters = _letters()
        found = {}
        for word, token in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if token in added:
                found[token] = b"" if added[token].special else word.encode()
            elif all(letter in letters for letter in word):
                found[token] = bytes(letters[letter] for letter in word)
            else:
                return None
        return found


def of_values(values: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `values` these are."""
    if values["kind"] == "bytes":
        return Bytes()
    return Learned(values["json"], values["name"], values["mark"])


def read_tokenizer(path: Path) -> Learned:
    """A tokenizer.json.

    Raises:
        UsageError: for one that cannot be read, or is none.
    """
    asked = f"--tokenizer {path}"
    read_json(path, asked, "The tokens of a text are found by it.", "gpt2/tokenizer.json")
    return Learned(path.read_text(encoding="utf-8-sig"), path.name)


def bpe_size(asked: str) -> int | None:
    """8192 of "bpe:8192"; None where no vocabulary is to be trained.

    Raises:
        UsageError: for a size that cannot be.
    """
    kind, _, size = asked.partition(":")
    if kind != "bpe":
        return None
    if not (size.isascii() and size.isdecimal() and _LEAST <= int(size) <= _MOST):
        raise UsageError(
            f"--tokenizer {asked}.",
            f"A vocabulary has at least {_LEAST} tokens: every byte, and the mark between "
            "documents.",
            "Write its size after a colon, such as --tokenizer bpe:8192.",
        )
    return int(size)


def train_bpe(texts: Iterable[str], size: int) -> Learned:
    """A byte-level BPE vocabulary (Sennrich et al. 2016; Radford et al. 2019): every text can be
    written with it, and decoded it is the same. Equal texts make an equal vocabulary, in whatever
    order.

    Args:
        texts: to learn from.
        size: V at the most; a small text has fewer.
    """
    check_extra("bpe", f"--tokenizer bpe:{size}")
    # Late: an extra.
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers, trainers

    model = Model(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[MARK],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return Learned(model.to_str(), f"bpe:{size}")


def _letters() -> dict[str, int]:
    """The byte that each letter of byte-level vocabularies stands for (GPT-2's bytes_to_unicode):
    printable ones are themselves, the others come from U+0100 on."""
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }
