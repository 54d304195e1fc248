"""A task of your own in one file: how deep is each bracket nested?

ponder train examples/my_task.py:recipe
deepspeed --num_gpus 2 --module training.train examples/my_task.py:recipe --deepspeed_config
ds_configs/zero2.json
"""

import numpy as np
import torch

from halting import UsageError
from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, LoopConfig, Part, PenaltyConfig
from training.tasks.task import SPLITS, Batch, Task


class Brackets(Task):
    """Say after each bracket how many are open. Difficulty is that depth.

    Args:
        length: brackets in an example.
        deepest: the most that are open at once.
        seed: of the examples.
    """

    causal = True
    difficulty_name = "depth"

    def __init__(self, length: int = 24, deepest: int = 6, seed: int = 0):
        if length < 1 or deepest < 1:
            raise UsageError(
                f"Brackets(length={length}, deepest={deepest}).",
                "Both count something.",
                "Write 1 or more.",
            )
        self.max_length = length
        self.deepest = deepest
        self.seed = seed
        self.vocab_size = 2 + deepest + 1  # "(", ")", and the depths 0 … deepest

    def batch(self, split: str, index: int, size: int) -> Batch:
        tokens = torch.stack([self._example(split, index + number) for number in range(size)])
        depth = torch.where(tokens == 0, 1, -1).cumsum(1)
        return Batch(tokens, depth + 2, torch.ones_like(tokens, dtype=torch.bool), depth.float())

    def _example(self, split: str, number: int) -> torch.Tensor:
        # A generator for each example, so that example 7 is the same whoever asks for it, and in
        # whatever batch.
        coins = (
            np.random.default_rng((self.seed, SPLITS.index(split), number)).random(self.max_length)
            < 0.5
        )
        tokens = []
        depth = 0
        for opens in coins:
            opens = depth == 0 or (opens and depth < self.deepest)
            tokens.append(0 if opens else 1)
            depth += 1 if opens else -1
        return torch.tensor(tokens)

    def encode(self, text: str) -> list[int]:
        if bad := set(text) - {"(", ")"}:
            raise UsageError(
                f"The text has {sorted(bad)}.",
                "This task knows ( and ) alone.",
                "Write something like (()()).",
            )
        return ["()".index(character) for character in text]

    def decode(self, tokens: list[int]) -> list[str]:
        return ["()"[token] if token < 2 else str(token - 2) for token in tokens]


def recipe() -> RunConfig:
    """Everything that is not said here keeps its default; every field is a flag too."""
    return RunConfig(
        recipe="brackets",
        data=Part(kind=f"{__file__}:Brackets"),
        model=ModelPart(width=48, num_heads=4),
        loop=LoopConfig(max_steps=6),
        halting=HaltingPart(kind="GravesACT"),
        penalty=PenaltyConfig(value=0.01, warmup=150),
        updates=500,
        eval_every=100,
    )
