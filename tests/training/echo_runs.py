"""Runs of a task that repeats what it is given, for tests of what a run takes."""

import torch

from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, LoopConfig, Part
from training.tasks.task import Batch, Task

LENGTH, KINDS = 32, 50


class Echo(Task):
    """Say what stands there."""

    vocab_size, max_length = KINDS, LENGTH

    def __init__(
        self, causal: bool = False, length: int = LENGTH, kinds: int = KINDS, seed: int = 0
    ):
        self.causal, self.max_length, self.vocab_size = causal, length, kinds

    def batch(self, split: str, index: int, size: int) -> Batch:
        number = torch.arange(index, index + size)[:, None] + torch.arange(self.max_length)
        tokens = number % self.vocab_size
        return Batch(
            tokens, tokens, torch.ones_like(tokens, dtype=torch.bool), torch.zeros(tokens.shape)
        )

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % self.vocab_size for letter in text]

    def decode(self, tokens: list[int]) -> list[str]:
        return [str(token) for token in tokens]


ECHO = f"{__file__}:Echo"
SHAPES = {
    "plain": {},
    "grouped": {"num_kv_heads": 2, "num_layers": 2, "positions": "none"},
    "whole": {
        "prelude_layers": 1,
        "coda_layers": 1,
        "feed_forward": "gelu",
        "norm_kind": "layer",
        "injection": "add",
    },
    "tied": {"tie_embeddings": True, "positions": "learned", "injection": "none"},
    "gru": {"block": "GRUBlock"},
}
# A gate that never lets anyone go, so that every token takes all steps.
NEVER = {"kind": "GravesACT", "options": {"bias_init": -30.0}}
FIXED = {"kind": "FixedSteps"}


def make(
    shape: str = "plain", halting: dict = FIXED, steps: int = 3, data: dict | None = None, **others
) -> RunConfig:
    return RunConfig(
        recipe="echo",
        data=Part(kind=ECHO, options=data or {}),
        model=ModelPart(width=32, num_heads=4, **SHAPES[shape]),
        loop=LoopConfig(max_steps=steps, **others.pop("loop", {})),
        halting=HaltingPart(**halting),
        **{"batch_size": 8, **others},
    )
