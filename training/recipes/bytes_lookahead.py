"""Next bytes, each thought on while one more step lowers its loss: --data.text FILE or FOLDER.

As bytes, with LookaheadDepth: every step learns to answer, and thinking costs nothing.
"""

from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import (
    HaltingPart,
    LoopConfig,
    OptimizerConfig,
    Part,
)


def recipe() -> RunConfig:
    """A causal model of width 128 with one looped layer; training runs all four steps."""
    return RunConfig(
        recipe="bytes_lookahead",
        data=Part(kind="TextBytes"),
        model=ModelPart(width=128, num_heads=4, positions="rotary"),
        loop=LoopConfig(max_steps=4),
        halting=HaltingPart(kind="LookaheadDepth"),
        optimizer=OptimizerConfig(learning_rate=3e-3, decay_embeddings=True),
        updates=600,
        batch_size=32,
        eval_every=100,
        eval_examples=64,
        test_examples=512,
    )
