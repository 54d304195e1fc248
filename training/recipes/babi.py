"""Answer questions about short stories (bAbI tasks 1 to 3): difficulty is the number of supporting
facts.

Some minutes on two cores; the files are found by --data.folder, PONDER_BABI or in shared/data/babi.
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
    """A bidirectional model of width 64 with one looped layer, which halts as the Universal
    Transformer does."""
    return RunConfig(
        recipe="babi",
        data=Part(kind="Babi"),
        model=ModelPart(width=64, num_heads=4, positions="rotary"),
        loop=LoopConfig(max_steps=8),
        halting=HaltingPart(kind="UniversalTransformerACT", options={"bias_init": -1.0}),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        penalty=PenaltyConfig(value=0.003, warmup=500),
        updates=2000,
        batch_size=64,
        eval_every=250,
        eval_examples=512,
        save_every=500,
        test_examples=2048,
        threads=1,
    )
