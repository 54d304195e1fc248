"""One rank of `python -m benchmarks.memory`: what the process needs, then what its tensors take and
what it sends."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch

from benchmarks.memory.case import held_tensors, process_peak
from training.config.model_part import ModelPart
from training.config.run_config import RunConfig
from training.config.sections import HaltingPart, LoopConfig, Part
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import start
from training.recipes.load import load_recipe

SMALL = 32


def config_of(width: int, ds_config: str) -> RunConfig:
    """Two looped layers, one before and one after them; no token leaves before its third step."""
    plain = load_recipe("bytes").model_dump()
    return RunConfig(
        **{
            **plain,
            "data": Part(kind="TextBytes", options={"length": 64}),
            "model": ModelPart(
                width=width, num_heads=4, num_layers=2, prelude_layers=1, coda_layers=1
            ),
            "loop": LoopConfig(max_steps=3),
            "halting": HaltingPart(kind="GravesACT", options={"bias_init": -30.0}),
            "batch_size": 4,
            "device": "cpu",
            "deepspeed_config": ds_config,
        }
    )


def main(argv: Sequence[str]) -> None:
    """Arguments: width, ds_config, folder."""
    width = int(argv[0])
    ds_config = argv[1]
    folder = Path(argv[2])
    torch.set_num_threads(1)
    start(
        timedelta(minutes=10), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    process_peak(
        config_of(SMALL, ds_config)
    )  # whatever is imported and made at the first use is there from now on
    config = config_of(width, ds_config)
    peak = process_peak(config)
    (folder / f"half{collectives.rank()}").touch()
    found = {"process": peak, **asdict(held_tensors(config))}
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    leave(0)


if __name__ == "__main__":
    main(sys.argv[1:])
