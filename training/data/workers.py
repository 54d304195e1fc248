"""Texts to tokens in several processes, in order, with a bounded number under way."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halting.errors import UsageError
from training.data.pieces import Piece
from training.data.tokenizer import Tokenizer, of_values

BLOCK = 1 << 20
"""Bytes of text that a process gets at once."""


@dataclass(frozen=True)
class Encoded:
    """The tokens of some texts.

    Args:
        tokens: of each.
        exact: whether the bytes of each text are those that its tokens stand for, added up.
    """

    tokens: list[NDArray[Any]]
    exact: bool


_TOKENIZER: dict[str, Any] = {}


def encode_pieces(
    pieces: Iterable[Piece], tokenizer: Tokenizer, dtype: np.dtype[Any], workers: int
) -> Generator[tuple[list[Piece], Encoded], None, None]:
    """Pieces with their tokens, in blocks of about a megabyte, in order.

    Args:
        pieces: of a corpus; a few blocks of them are in memory at once.
        tokenizer: to encode with.
        dtype: of a token.
        workers: processes; 1: this one.
    """
    blocks = _blocks(pieces)
    if workers == 1:
        for block in blocks:
            yield block, _encode(tokenizer, [piece.text for piece in block], dtype)
        return
    # Spawned: a forked process may wait for ever on a lock that a thread held.
    context = multiprocessing.get_context("spawn")
    start = (tokenizer.values(), dtype.str)
    pool = ProcessPoolExecutor(workers, context, _start, start)
    under_way: deque[tuple[list[Piece], Future[Encoded]]] = deque()
    try:
        for block in blocks:
            texts = [piece.text for piece in block]
            under_way.append((block, pool.submit(_encode_in_worker, texts)))
            if len(under_way) > 2 * workers:
                first, result = under_way.popleft()
                yield first, result.result()
        while under_way:
            first, result = under_way.popleft()
            yield first, result.result()
    except BrokenProcessPool:
        raise UsageError(
            "A process that makes tokens was killed.",
            "The system does that where memory runs out.",
            f"Write the same command again with fewer than --workers {workers}; it goes on.",
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _blocks(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Runs of pieces; each ends where the reading can be taken up again."""
    block: list[Piece] = []
    size = 0
    for piece in pieces:
        block.append(piece)
        size += len(piece.text) + 64  # what a small piece costs beside its text
        if size >= BLOCK and piece.after is not None:
            yield block
            block = []
            size = 0
    if block:
        yield block


def _start(values: dict[str, Any], dtype: str) -> None:
    """What a process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends all
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _TOKENIZER.update(tokenizer=of_values(values), dtype=np.dtype(dtype))


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, which closes no pipe that others hold too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _encode_in_worker(texts: Sequence[bytes]) -> Encoded:
    return _encode(_TOKENIZER["tokenizer"], texts, _TOKENIZER["dtype"])


def _encode(tokenizer: Tokenizer, texts: Sequence[bytes], dtype: np.dtype[Any]) -> Encoded:
    lengths = tokenizer.byte_lengths
    exact = lengths is not None
    found = []
    for text in texts:
        tokens = tokenizer.encode(text.decode())
        exact = exact and int(lengths[tokens].sum()) == len(text)  # pyright: ignore[reportOptionalSubscript]
        found.append(tokens.astype(dtype, copy=False))
    return Encoded(found, exact)
