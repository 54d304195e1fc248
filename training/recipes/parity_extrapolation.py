"""PonderNet's published experiment: parity of a vector, tested with more non-zero elements than any
in training.

One position, a GRU cell over the whole vector, at most 20 steps. Beside it:

    ponder train parity_extrapolation --halting.kind GravesACT
    ponder train parity_extrapolation --data.layout tokens --model.block Block
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
    """The paper's 96 elements, 1 to 48 of them non-zero in training and 49 to 96 in the test
    split."""
    return RunConfig(
        recipe="parity_extrapolation",
        data=Part(kind="ParityVector"),
        model=ModelPart(width=128, num_heads=4, block="GRUBlock"),
        loop=LoopConfig(max_steps=20),
        halting=HaltingPart(kind="PonderNet"),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.0, warmup=500),
        penalty=PenaltyConfig(value=0.01),
        updates=50_000,
        batch_size=128,
        eval_every=1000,
        eval_examples=1024,
        save_every=5000,
        test_examples=4096,
    )
