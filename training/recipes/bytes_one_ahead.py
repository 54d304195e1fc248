"""Next bytes whose exits are decided one step ahead: --data.text FILE or FOLDER.

As bytes, with OneAhead around GravesACT: a byte takes two steps at least.
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
    """A causal model of width 128 with one looped layer; a byte takes two steps at least."""
    return RunConfig(
        recipe="bytes_one_ahead",
        data=Part(kind="TextBytes"),
        model=ModelPart(width=128, num_heads=4, positions="rotary"),
        loop=LoopConfig(max_steps=6),
        halting=HaltingPart(kind="GravesACT", one_ahead=True),
        optimizer=OptimizerConfig(learning_rate=3e-3, decay_embeddings=True),
        penalty=PenaltyConfig(value=0.003, warmup=300),
        updates=600,
        batch_size=32,
        eval_every=100,
        eval_examples=64,
        test_examples=512,
    )
