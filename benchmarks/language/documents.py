"""Rows of packed documents, and the same documents each alone."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Rows that are full of documents.

    Args:
        tokens: [B L].
        documents: [B L], the number of each position's document.
    """

    tokens: Tensor
    documents: Tensor

    def alone(self) -> list[tuple[int, slice, Tensor]]:
        """Each document, or what of it stands in the row: the row, the place, tokens [1 l]."""
        found = []
        for row, numbers in enumerate(self.documents):
            begin = 0
            for length in numbers.unique_consecutive(return_counts=True)[1].tolist():
                place = slice(begin, begin + length)
                found.append((row, place, self.tokens[row : row + 1, place]))
                begin += length
        return found


def pack(rows: int, length: int, mean: int, vocabulary: int, seed: int = 0) -> Packed:
    """Documents of mean/2 to 3·mean/2 tokens, one after the other, cut into rows; the first row
    begins within one.

    Args:
        rows, length: B and L.
        mean: tokens of a document.
        vocabulary: of the tokens, which are drawn at random.
        seed: of the lengths and the tokens.
    """
    draw = random.Random(seed)
    numbers: list[int] = []
    begin = draw.randrange(mean // 2)
    document = 0
    while len(numbers) < begin + rows * length:
        numbers += [document] * draw.randint(mean // 2, mean + mean // 2)
        document += 1
    documents = torch.tensor(numbers[begin : begin + rows * length]).view(rows, length)
    generator = torch.Generator().manual_seed(seed)
    return Packed(torch.randint(vocabulary, (rows, length), generator=generator), documents)
