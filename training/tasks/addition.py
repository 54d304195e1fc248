"""Addition: two numbers digit by digit, with long chains of carries."""

import re

import numpy as np
import torch

from halting.errors import UsageError
from training.tasks.draws import Draws
from training.tasks.options import require_at_least
from training.tasks.task import IGNORE, Batch, Task

_NUM_PAIRS = 100
_SUM = re.compile(r"\s*([0-9]+)\s*\+\s*([0-9]+)\s*")


class Addition(Task):
    """Position i holds the pair (a, b) of digit i, least significant first, of two numbers; the
    answer is their sum's.

    After the n digits of an example comes one pair (0, 0), whose answer is the last carry; n is
    uniform over 1 .. digits, and the rest of a row is padding. At half of the positions a + b = 9,
    where a carry runs on; elsewhere every other pair is equally likely, so that a quarter of all
    positions start a carry and a quarter end one.

    Difficulty is the length of the carry chain that reaches a digit: 0 if no carry comes in, 1 if
    the neighbour made it, k if it ran through k − 1 nines; NaN on padding. A run of nines that no
    carry entered counts 0 too, although it takes as long to rule a carry out.

    Token 10 a + b is the pair (a, b), token 100 + d the answer d.

    Args:
        digits: the most digits of a number.
        causal: whether position i sees positions ≤ i only; carries come from there, so that is all
            it needs.
        seed: of the examples.

    Raises:
        UsageError: for fewer than 1 digit.
    """

    vocab_size = _NUM_PAIRS + 10
    difficulty_name = "carries"

    def __init__(self, digits: int = 8, causal: bool = False, seed: int = 0):
        require_at_least(1, "digits", digits, "A number has a digit at least.")
        self.digits = digits
        self.causal = causal
        self.seed = seed
        self.max_length = digits + 1

    def batch(self, split: str, index: int, size: int) -> Batch:
        draws = Draws(self.seed, split, index, size)
        length = self.max_length
        num_digits = 1 + draws.integers(self.digits, 1)
        runs_on = draws.integers(2, length) == 1
        first = draws.integers(10, length)
        second = (9 - first + np.where(runs_on, 0, 1 + draws.integers(9, length))) % 10

        is_digit = np.arange(length) < num_digits
        valid = np.arange(length) <= num_digits
        first = first * is_digit
        second = second * is_digit
        chain = np.zeros((size, length), dtype=np.int64)
        for place in range(1, length):
            before = first[:, place - 1] + second[:, place - 1]
            carried_on = np.where(
                (before == 9) & (chain[:, place - 1] > 0), chain[:, place - 1] + 1, 0
            )
            chain[:, place] = np.where(before > 9, 1, carried_on)
        answer = (first + second + (chain > 0)) % 10
        return Batch(
            torch.from_numpy(10 * first + second),
            torch.from_numpy(np.where(valid, _NUM_PAIRS + answer, IGNORE)),
            torch.from_numpy(valid),
            torch.from_numpy(np.where(valid, chain, np.nan).astype(np.float32)),
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of a sum such as "123+456", with the pair for the last carry.

        Raises:
            UsageError: for a text that is not two whole numbers with a plus sign between.
        """
        numbers = _SUM.fullmatch(text)
        if numbers is None:
            raise UsageError(
                f"The text {text!r} is not a sum.",
                "This task adds two whole numbers, written in decimal digits.",
                "Write two numbers with a plus sign between, such as 123+456.",
            )
        first, second = numbers.groups()
        length = max(len(first), len(second)) + 1
        pairs = zip(reversed(first.zfill(length)), reversed(second.zfill(length)), strict=True)
        return [10 * int(a) + int(b) for a, b in pairs]

    def decode(self, tokens: list[int]) -> list[str]:
        """A pair as "3+6", an answer as "9"."""
        return [
            f"{token // 10}+{token % 10}" if token < _NUM_PAIRS else str(token - _NUM_PAIRS)
            for token in tokens
        ]
