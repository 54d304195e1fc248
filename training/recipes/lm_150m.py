"""A language model of about 150 million parameters, for a vocabulary of 32,768 tokens: for GPUs,
under the deepspeed launcher.

Not trained by the authors yet; `--dry-run` tells what it takes.
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
    """Width 1024: two layers before the loop, four in it, one after."""
    return RunConfig(
        recipe="lm_150m",
        data=Part(kind="Tokens", options={"length": 1024}),
        model=ModelPart(
            width=1024,
            num_heads=16,
            num_layers=4,
            prelude_layers=2,
            coda_layers=1,
            positions="rotary",
        ),
        loop=LoopConfig(max_steps=8, backprop="checkpointed"),
        halting=HaltingPart(kind="GravesACT"),
        optimizer=OptimizerConfig(learning_rate=3e-4, weight_decay=0.1, decay_embeddings=True),
        schedule=Part(kind="WarmupCosine", options={"warmup": 2000}),
        penalty=PenaltyConfig(target_steps="50%", warmup=5000),
        updates=100_000,
        batch_size=256,
        accumulation=4,
        precision="bf16",
        eval_every=1000,
        save_every=1000,
    )
