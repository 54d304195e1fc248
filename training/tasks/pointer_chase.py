"""Pointer chasing: say the colour of the root that a chain of pointers leads to."""

import re

import numpy as np
import torch

from halting.errors import UsageError
from training.tasks.draws import Draws
from training.tasks.options import require_at_least
from training.tasks.task import Batch, Task

_FEWEST_ROOTS = 2
_MOST_ROOTS = 4
_NAMES = (
    "red",
    "green",
    "blue",
    "gold",
    "pink",
    "teal",
    "grey",
    "plum",
    "lime",
    "navy",
    "rust",
    "sand",
)
_POINTER = re.compile(r"(?:→|->)?([0-9]{1,9})")


class PointerChase(Task):
    """Each position is a coloured root or points to another one; the answer everywhere is the
    colour of one's root.

    The pointers form a forest of 2 to 4 trees of different colours (as far as colours go), drawn as
    random recursive
    trees: in a random order of the positions, the first ones are the roots, and each later one
        points to any earlier
    one. Difficulty is the number of hops to the root, 0 at the root itself. (With a single colour
    in an example, its answers could be read off without following any pointer.)

    Tokens 0 .. colours − 1 are the colours, token colours + p points to position p. Bidirectional.

    Args:
        length: L, positions of an example.
        colours: how many colours roots may have.
        seed: of the examples.

    Raises:
        UsageError: for a length or a number of colours below 2.
    """

    difficulty_name = "hops"

    def __init__(self, length: int = 16, colours: int = 4, seed: int = 0):
        require_at_least(2, "length", length, "A pointer needs another position to point to.")
        require_at_least(
            2, "colours", colours, "With fewer than two colours there is nothing to find out."
        )
        self.length = length
        self.colours = colours
        self.seed = seed
        self.vocab_size = colours + length
        self.max_length = length

    def batch(self, split: str, index: int, size: int) -> Batch:
        length = self.length
        draws = Draws(self.seed, split, index, size)
        ranks = np.arange(length)
        num_roots = _FEWEST_ROOTS + draws.integers(min(_MOST_ROOTS, length) - _FEWEST_ROOTS + 1, 1)
        place = draws.permutations(length)  # of the node with each rank in the random order
        earlier = draws.integers(np.maximum(ranks, 1), length)
        colour = draws.permutations(self.colours)[
            :, ranks % self.colours
        ]  # for all nodes, used at the roots

        is_root = ranks < num_roots
        parent = np.where(is_root, ranks, earlier)
        pointed_to = np.take_along_axis(place, parent, axis=1)
        tokens = np.where(is_root, colour, self.colours + pointed_to)
        root = parent
        hops = (~is_root).astype(np.int64)
        for _ in range(
            (length - 1).bit_length()
        ):  # pointer doubling: chains have at most L − 1 hops
            hops = hops + np.take_along_axis(hops, root, axis=1)
            root = np.take_along_axis(root, root, axis=1)
        targets = np.take_along_axis(colour, root, axis=1)

        at = np.argsort(place, axis=1)  # the rank of the node at each position
        tokens, targets, hops = (
            np.take_along_axis(values, at, axis=1) for values in (tokens, targets, hops)
        )
        return Batch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            torch.ones(size, length, dtype=torch.bool),
            torch.from_numpy(hops.astype(np.float32)),
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of words such as "red →0 →1": a colour is a root, →7 (also ->7 or 7) points to
        position 7, from 0.

        Raises:
            UsageError: for an unknown word, a pointer out of the text or in a circle, no words, and
                more than L words.
        """
        words = text.split()
        if not 0 < len(words) <= self.length:
            raise UsageError(
                f"The text has {len(words)} words.",
                f"There is a word for each position, and this task has up to {self.length} of "
                "them.",
                f"Write 1 to {self.length} words, such as: {_name(0)} →0 →1.",
            )
        names = {_name(number): number for number in range(self.colours)}
        parents = []
        tokens = []
        for position, word in enumerate(words):
            pointer = _POINTER.fullmatch(word)
            if pointer is None and word.lower() not in names:
                raise UsageError(
                    f"The word {word!r} is neither a colour nor a pointer.",
                    f"The colours are {', '.join(names)}; a pointer names a position, counted from "
                    "0.",
                    "Write a colour at a root, and →7, ->7 or 7 to point to position 7.",
                )
            if pointer and int(pointer[1]) >= len(words):
                raise UsageError(
                    f"The word {word!r} points out of the text.",
                    f"Its {len(words)} positions are numbered from 0 to {len(words) - 1}.",
                    "Point to one of these.",
                )
            parents.append(int(pointer[1]) if pointer else position)
            tokens.append(self.colours + int(pointer[1]) if pointer else names[word.lower()])
        reached = list(range(len(words)))
        for _ in words:
            reached = [parents[position] for position in reached]
        for word, end in zip(words, reached, strict=True):
            if tokens[end] >= self.colours:
                raise UsageError(
                    f"The pointer {word!r} leads into a circle through position {end}.",
                    "Its chain never comes to a root, so it has no colour.",
                    f"Write a colour at position {end}, or point it elsewhere.",
                )
        return tokens

    def decode(self, tokens: list[int]) -> list[str]:
        return [
            _name(token) if token < self.colours else f"→{token - self.colours}" for token in tokens
        ]


def _name(colour: int) -> str:
    return _NAMES[colour] if colour < len(_NAMES) else f"colour{colour}"
