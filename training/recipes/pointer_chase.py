"""Follow pointers to a coloured root, and say its colour: difficulty is the number of hops.

The demo, about a minute on two cores.
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
    """A bidirectional model of width 64 with one looped layer."""
    return RunConfig(
        recipe="pointer_chase",
        data=Part(kind="PointerChase"),
        model=ModelPart(width=64, num_heads=4, positions="learned"),
        loop=LoopConfig(max_steps=10),
        halting=HaltingPart(kind="GravesACT"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        penalty=PenaltyConfig(value=0.01, warmup=500),
        updates=1500,
        batch_size=64,
        threads=1,
    )
