"""Next-token prediction over a folder of tokens: ponder data prepare TEXTS --out DIR, then
--data.folder DIR.

About ten minutes on two cores; validation in bits per byte, whatever the tokenizer. The penalty is
steered from an eighth of the run on, so that steps really fall and differ between tokens.
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
    """Width 128: one layer before the loop, two in it, one after."""
    return RunConfig(
        recipe="lm",
        data=Part(kind="Tokens", options={"length": 128}),
        model=ModelPart(
            width=128,
            num_heads=4,
            num_layers=2,
            prelude_layers=1,
            coda_layers=1,
            positions="rotary",
        ),
        loop=LoopConfig(max_steps=4),
        halting=HaltingPart(kind="GravesACT", options={"bias_init": -2.0}),
        optimizer=OptimizerConfig(learning_rate=3e-3, weight_decay=0.1),
        schedule=Part(kind="WarmupCosine", options={"warmup": 100}),
        penalty=PenaltyConfig(value=0.02, target_steps="60%", warmup=150),
        updates=1200,
        batch_size=16,
        eval_every=250,
        eval_examples=256,
        test_examples=512,
    )
