"""Running parity of bits, from left to right: difficulty is the position.

A minute or two on two cores.
"""

from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import (
    HaltingPart,
    LoopConfig,
    OptimizerConfig,
    Part,
    PenaltyConfig,
)


def recipe() -> RunConfig:
    """A causal model of width 64 with one looped layer."""
    return RunConfig(
        recipe="parity",
        data=Part(kind="Parity"),
        model=ModelPart(width=64, num_heads=4, positions="learned"),
        loop=LoopConfig(max_steps=10),
        halting=HaltingPart(kind="GravesACT"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        penalty=PenaltyConfig(value=0.01, warmup=500),
        updates=2000,
        batch_size=64,
        threads=1,
    )
