"""What `deepspeed.initialize` gets: the file's ZeRO, offload and communication settings, and the
run's own numbers."""

import copy
from typing import Any

import torch

from halting.errors import UsageError, raise_all
from training.config.precision import ARITHMETIC
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.engine.ds_config.adopted import adopt, on_gpu
from training.engine.ds_config.rehearsal import deepspeed_objections


def deepspeed_settings(config: RunConfig, ranks: int) -> dict[str, Any]:
    """The settings of a run.

    Args:
        config: the run; `adopt` has read its file, or does now.
        ranks: how many there are.

    Raises:
        UsageError: as `adopt`; for a batch that ranks and accumulation cannot share equally.
    """
    assert config.launch.deepspeed_config is not None
    config = adopt(config, ranks).config
    share, left = divmod(config.batch_size, ranks * config.accumulation)
    if left:
        raise UsageError(
            f"--batch-size = {config.batch_size} cannot be divided among {ranks} ranks and "
            f"--accumulation = {config.accumulation}.",
            "Every rank takes an equal share of the examples of every backward pass.",
            f"Write --batch-size {(share + 1) * ranks * config.accumulation}.",
        )
    autocast = ARITHMETIC[config.precision].autocast
    given = copy.deepcopy(config.deepspeed) or {}
    if config.precision == "bf16_weights":
        given["bf16"] = {"enabled": True}
    # The run's own optimizer trains, under offload too, where DeepSpeed would insist on its own:
    # that is compiled on the machine and rounds otherwise, so a run asks for it by name (CPUAdam).
    # Others than Adams are "untested" under ZeRO: benchmarks/unequal does test them.
    return {
        **given,
        "train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulation,
        "train_micro_batch_size_per_gpu": share,
        "gradient_clipping": config.optimizer.clip,
        "torch_autocast": {
            "enabled": autocast is not None,
            "dtype": str(autocast or torch.bfloat16).removeprefix("torch."),
        },
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }


def check_with_deepspeed(config: RunConfig) -> None:
    """Refuses what DeepSpeed itself does not take; called by all ranks, rank 0 asks.

    Args:
        config: the run, whose file `adopt` has read.

    Raises:
        UsageError: on all ranks, for all that DeepSpeed says.
    """
    where = str(config.launch.deepspeed_config)
    told = None
    if collectives.rank() == 0:
        found = deepspeed_objections(config.deepspeed or {}, where, on_gpu(config))
        told = [(each.what, each.why, each.write) for each in found]
    raise_all([UsageError(*parts) for parts in collectives.broadcast_object(told) or ()])
