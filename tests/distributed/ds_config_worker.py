"""One rank: trains the tiny model under ds_configs as people have them, and under ours that say the
same; rank 0 writes what was seen. Arguments: a folder, and files of others."""

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from tiny import make_config, make_model, train

from halting import UsageError
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import DeepSpeedEngine, LocalEngine, start
from training.engine.ds_config import adopt, check_with_deepspeed

UPDATES = 5
SAVED_AT = 3

CPU = {"device": "cpu", "pin_memory": True}
ZERO3 = {"stage": 3, "stage3_param_persistence_threshold": 0}
NO_NUMBERS = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
}
SETTINGS: dict[str, dict] = {
    "transformers": {
        "fp16": {"enabled": "auto", "loss_scale": 0, "hysteresis": 2, "min_loss_scale": 1},
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-3, "betas": [0.8, 0.99], "eps": 1e-8}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 3e-3}},
        "zero_optimization": {
            **ZERO3,
            "offload_optimizer": CPU,
            "offload_param": CPU,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "sub_group_size": 1e14,
            "reduce_bucket_size": 500,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_live_parameters": 1e9,
            "stage3_gather_fp16_weights_on_model_save": True,
        },
        "steps_per_print": 1,
        "wall_clock_breakdown": True,
    },
    "llamafactory": {
        **NO_NUMBERS,
        "zero_allow_untested_optimizer": True,
        "fp16": {"enabled": "auto"},
        "bf16": {"enabled": "auto"},
        "zero_optimization": {
            "stage": 2,
            "allgather_partitions": False,
            "allgather_bucket_size": 100.0,
            "use_multi_rank_bucket_allreduce": False,
            "overlap_comm": True,
            "reduce_scatter": True,
            "reduce_bucket_size": 500.0,
            "contiguous_gradients": False,
            "round_robin_gradients": True,
        },
        "monitor_config": {"enabled": True, "csv_monitor": {"enabled": False}},
    },
    "axolotl": {
        **NO_NUMBERS,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": True},
        "zero_optimization": {
            "stage": 3,
            "offload_optimizer": CPU,
            "offload_param": CPU,
            "sub_group_size": 0,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "max_live_parameters": 0,
            "max_reuse_distance": 0,
            "gather_16bit_weights_on_model_save": True,
        },
    },
    "openrlhf": {
        **NO_NUMBERS,
        "zero_optimization": {
            **ZERO3,
            "sub_group_size": 300,
            "stage3_use_all_reduce_for_fetch_params": True,
            "memory_efficient_linear": False,
            "round_robin_gradients": True,
            "zero_hpz_partition_size": 1,
            "zero_quantized_weights": False,
        },
        "data_types": {"grad_accum_dtype": "fp32"},
        "prescale_gradients": False,
        "steps_per_print": 100,
    },
    "cifar": {
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "weight_decay": 3e-7}},
        "prescale_gradients": True,
        "gradient_predivide_factor": 2.0,
        "zero_optimization": {
            "stage": 1,
            "cpu_offload": True,
            "reduce_scatter": False,
            "ignore_unused_parameters": False,
            "enable_sanity_checks": True,
        },
    },
    "told": {
        "zero_optimization": {**ZERO3, "stage3_allgather_sequential": True},
        "memory_breakdown": True,
        "dump_state": True,
        "comms_logger": {"enabled": True, "verbose": False, "prof_all": True, "debug": False},
        "flops_profiler": {"enabled": True, "profile_step": 1, "output_file": "/dev/null"},
        "timers": {"throughput": {"enabled": True, "synchronized": False}},
        "log_level": "warning",
    },
}
"""Shapes of other trainers' files, on small numbers. Nothing that they pass on to DeepSpeed may
change a loss, or what a checkpoint keeps."""


def ours(stage: int, zero: dict) -> dict:
    """The same stage and offload as a file of ds_configs says it."""
    kept = {part: zero[part] for part in ("offload_optimizer", "offload_param") if part in zero}
    threshold = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
    return {"zero_optimization": {"stage": stage, **kept, **threshold}}


def configured(folder: Path, given: dict | Path, base: RunConfig | None = None) -> RunConfig:
    path = given
    if isinstance(given, dict):
        path = folder / "given.json"
        if collectives.rank() == 0:
            path.write_text(json.dumps(given))
        collectives.barrier()
    config = base or make_config("unused", optimizer={"kind": "AdamW", "clip": 0.5})
    config = config.replace(deepspeed_config=str(path), deepspeed=None)
    found = adopt(config, collectives.world_size(), ())
    collectives.barrier()
    return found.config


def histories(folder: Path, config: RunConfig) -> dict:
    """Losses under a config; and those after a checkpoint of it, under it and without DeepSpeed."""
    saved = folder / "saved"
    saved.mkdir(exist_ok=True)
    engine = DeepSpeedEngine(make_model(), config)
    before = train(engine, range(SAVED_AT))
    collectives.barrier()
    engine.save(saved)
    after = train(engine, range(SAVED_AT, UPDATES))
    found = {"before": asdict(before), "after": asdict(after)}
    resumed = DeepSpeedEngine(make_model(), config)
    resumed.load(saved)
    found["resumed"] = asdict(train(resumed, range(SAVED_AT, UPDATES)))
    alone = LocalEngine(make_model(), config.optimizer, torch.device("cpu"), config.precision)
    alone.load(saved)
    found["alone"] = asdict(train(alone, range(SAVED_AT, UPDATES), ranks=2))
    return found


def run(folder: Path, given: dict | Path) -> dict:
    """Both trainings, or why there is none."""
    try:
        config = configured(folder, given)
        if isinstance(given, Path):
            check_with_deepspeed(config)
    except UsageError as error:
        return {"refused": str(error), "reasons": len(getattr(error, "errors", (error,)))}
    zero = dict(config.deepspeed or {})["zero_optimization"]
    assert isinstance(zero, dict)
    stage = int(str(zero["stage"]))
    as_ours = configured(folder, ours(stage, zero), config)
    return {
        "stage": stage,
        "precision": config.precision,
        "theirs": histories(folder, config),
        "ours": asdict(train(DeepSpeedEngine(make_model(), as_ours), range(UPDATES))),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=200),
        cpu=True,
        library_log=folder / f"library_log{collectives.rank()}.log",
    )
    cases: dict[str, dict | Path] = dict(SETTINGS)
    for word in sys.argv[2:]:
        cases[Path(word).name] = Path(word)
    found = {}
    for name, given in cases.items():
        try:
            found[name] = run(folder, given)
        except Exception as error:  # noqa: BLE001 — the others are to be seen too
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps(found))
    leave(0)


if __name__ == "__main__":
    main()
