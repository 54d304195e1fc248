"""Running parity: say, at each position, whether an even or odd number of ones came so far."""

import numpy as np
import torch

from halting.errors import UsageError
from training.tasks.draws import Draws
from training.tasks.options import require_at_least
from training.tasks.task import Batch, Task


class Parity(Task):
    """The answer at position i is (b_1 + … + b_i) mod 2. Difficulty is i, the number of bits that
    are summed.

    Tokens and answers are 0 and 1.

    Args:
        length: L, bits of an example.
        causal: whether position i sees positions ≤ i only; those are all that it needs.
        seed: of the examples.

    Raises:
        UsageError: for a length below 2.
    """

    vocab_size = 2
    difficulty_name = "position"

    def __init__(self, length: int = 16, causal: bool = True, seed: int = 0):
        require_at_least(2, "length", length, "The parity of a single bit is the bit itself.")
        self.length = length
        self.causal = causal
        self.seed = seed
        self.max_length = length

    def batch(self, split: str, index: int, size: int) -> Batch:
        bits = Draws(self.seed, split, index, size).integers(2, self.length)
        return Batch(
            torch.from_numpy(bits),
            torch.from_numpy(np.cumsum(bits, axis=1) % 2),
            torch.ones(size, self.length, dtype=torch.bool),
            torch.arange(1, self.length + 1, dtype=torch.float32).repeat(size, 1),
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of a text such as "1 0 1 1" or "1011".

        Raises:
            UsageError: for any other sign than 0 and 1, and for none at all.
        """
        bits = "".join(text.split())
        if not bits or set(bits) - {"0", "1"}:
            raise UsageError(
                f"The text {text!r} is not a row of bits.",
                "This task sums ones and zeros.",
                "Write bits, with or without spaces, such as 1 0 1 1.",
            )
        return [int(bit) for bit in bits]

    def decode(self, tokens: list[int]) -> list[str]:
        return [str(token) for token in tokens]
