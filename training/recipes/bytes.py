"""Next-byte prediction over any text: --data.text FILE or FOLDER.

Three minutes on two cores. The default text is the Python standard library's own source.
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
    """A causal model of width 128 with one looped layer."""
    return RunConfig(
        recipe="bytes",
        data=Part(kind="TextBytes"),
        model=ModelPart(width=128, num_heads=4, positions="rotary"),
        loop=LoopConfig(max_steps=6),
        halting=HaltingPart(kind="GravesACT"),
        optimizer=OptimizerConfig(learning_rate=3e-3),
        penalty=PenaltyConfig(value=0.003, warmup=300),
        updates=600,
        batch_size=32,
        eval_every=100,
        eval_examples=64,
        test_examples=512,
    )
