"""Configs whose task says what it hears, for tests of what a config holds."""

from typing import Any

from training.config.run_config import RunConfig
from training.config.sections import Part
from training.tasks import Parity


class Echo(Parity):
    """Says what it hears."""

    def __init__(
        self, length: int = 4, sizes: tuple[int, ...] = (1, 2), loud: bool = False, seed: int = 0
    ):
        super().__init__(length, seed=seed)
        self.sizes, self.loud = sizes, loud

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, tokens: list[int]) -> list[str]:
        return [chr(token) for token in tokens]


ECHO = f"{Echo.__module__}:Echo"


def run_config(**values: Any) -> RunConfig:
    return RunConfig(recipe="here", **{"data": Part(kind=ECHO), **values})
