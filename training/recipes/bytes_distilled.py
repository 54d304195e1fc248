"""A gate that learns when a hard exit would let a byte go: --start-from RUN, which stays as it is.

RUN: ponder train bytes --loop.max-steps 4 --halting.kind FixedSteps --readout.kind DeepSupervision.
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
    """The model of bytes, frozen; its teacher leaves at a confidence of 0.9."""
    return RunConfig(
        recipe="bytes_distilled",
        data=Part(kind="TextBytes"),
        model=ModelPart(width=128, num_heads=4, positions="rotary"),
        loop=LoopConfig(max_steps=4),
        halting=HaltingPart(kind="DistilledExit"),
        optimizer=OptimizerConfig(learning_rate=3e-3, decay_embeddings=True),
        train_only="rule",
        updates=300,
        batch_size=32,
        eval_every=100,
        eval_examples=64,
        test_examples=512,
    )
