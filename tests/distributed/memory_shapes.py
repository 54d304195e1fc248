"""Ways to share a small model out, whose memory and communication are foretold and measured."""

import json
from pathlib import Path

from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, LoopConfig, Part

# Small buckets and thresholds: as in a large model, most of it is in many buckets and nothing lasts
# gathered.
_SIZES = {"reduce_bucket_size": 200_000, "stage3_param_persistence_threshold": 1000}
_RELEASED = {**_SIZES, "stage3_prefetch_bucket_size": 0, "stage3_max_reuse_distance": 0}
_OPTIMIZER, _PARAMETERS = (
    {part: {"device": "cpu"}} for part in ("offload_optimizer", "offload_param")
)

WAYS: dict[str, tuple[dict, dict]] = {
    "zero0": ({"stage": 0}, {}),
    "zero0_bf16": ({"stage": 0}, {"precision": "bf16"}),
    "zero1": ({"stage": 1, **_SIZES}, {}),
    "zero2": ({"stage": 2, **_SIZES}, {}),
    "zero2_accumulated": ({"stage": 2, **_SIZES}, {"accumulation": 2}),
    "zero2_bf16": ({"stage": 2, **_SIZES}, {"precision": "bf16"}),
    "zero2_offload": ({"stage": 2, **_SIZES, **_OPTIMIZER}, {}),
    "zero3": ({"stage": 3, **_RELEASED}, {}),
    "zero3_kept": ({"stage": 3, **_SIZES}, {}),
    "zero3_bf16": ({"stage": 3, **_RELEASED}, {"precision": "bf16"}),
    "zero3_offload": ({"stage": 3, **_RELEASED, **_OPTIMIZER, **_PARAMETERS}, {}),
}
"""By name: the ZeRO section, and what else differs. Those of stage 3 come last: DeepSpeed's linear
layer of that stage stays in the process."""


def make_config(way: str, folder: Path) -> RunConfig:
    """A model of 7 MB in which no token leaves the loop before its last step."""
    zero, others = WAYS[way]
    path = folder / f"{way}.json"
    path.write_text(json.dumps({"zero_optimization": zero}))
    return RunConfig(
        **{
            "recipe": "memory",
            "data": Part(kind="PointerChase"),
            "model": ModelPart(
                width=192, num_heads=4, num_layers=2, prelude_layers=1, coda_layers=1
            ),
            "loop": LoopConfig(max_steps=3),
            "halting": HaltingPart(kind="GravesACT", options={"bias_init": -30.0}),
            "batch_size": 8,
            "deepspeed_config": str(path),
            "device": "cpu",
            **others,
        }
    )
