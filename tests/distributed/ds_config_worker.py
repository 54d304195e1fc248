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

ZERO2 = {"stage": 2, "reduce_bucket_size": 500}
ZERO3 = {"stage": 3, "stage3_param_persistence_threshold": 0, "reduce_bucket_size": 500}
SETTINGS: dict[str, dict] = {
    "round robin": {"zero_optimization": {**ZERO2, "round_robin_gradients": True}},
    "round robin 1": {"zero_optimization": {"stage": 1, "round_robin_gradients": True}},
    "round robin on the CPU": {
        "zero_optimization": {
            **ZERO2,
            "round_robin_gradients": True,
            "offload_optimizer": {"device": "cpu", "pin_memory": False},
        }
    },
    "overlap": {"zero_optimization": {**ZERO2, "overlap_comm": True}},
    "not contiguous": {"zero_optimization": {**ZERO2, "contiguous_gradients": False}},
    "no scatter": {"zero_optimization": {**ZERO2, "reduce_scatter": False}},
    "single ranks": {
        "zero_optimization": {
            **ZERO2,
            "use_multi_rank_bucket_allreduce": False,
            "allgather_partitions": False,
            "allgather_bucket_size": 100,
        }
    },
    "unused": {"zero_optimization": {**ZERO2, "ignore_unused_parameters": False}},
    "checked": {"zero_optimization": {**ZERO2, "enable_sanity_checks": True}},
    "prescaled": {
        "zero_optimization": {"stage": 1},
        "prescale_gradients": True,
        "gradient_predivide_factor": 2.0,
    },
    "prescaled 0": {"prescale_gradients": True, "gradient_predivide_factor": 2.0},
    "prescaled 3": {
        "zero_optimization": ZERO3,
        "prescale_gradients": True,
        "gradient_predivide_factor": 2.0,
    },
    "sub groups": {"zero_optimization": {**ZERO3, "sub_group_size": 300}},
    "sub groups of nothing": {"zero_optimization": {**ZERO3, "sub_group_size": 0}},
    "gathered otherwise": {
        "zero_optimization": {
            **ZERO3,
            "stage3_module_granularity_threshold": 1000,
            "overlap_comm": True,
            "contiguous_gradients": False,
        }
    },
    "gathered by summing": {
        "zero_optimization": {**ZERO3, "stage3_use_all_reduce_for_fetch_params": True}
    },
    "gathered one by one": {"zero_optimization": {**ZERO3, "stage3_allgather_sequential": True}},
    "plain linear": {
        "zero_optimization": {
            **ZERO3,
            "memory_efficient_linear": False,
            "override_module_apply": False,
        }
    },
    "told": {
        "zero_optimization": {"stage": 1},
        "steps_per_print": 1,
        "wall_clock_breakdown": True,
        "memory_breakdown": True,
        "dump_state": True,
        "comms_logger": {"enabled": True, "verbose": False, "prof_all": True, "debug": False},
        "flops_profiler": {"enabled": True, "profile_step": 1, "output_file": "/dev/null"},
        "timers": {"throughput": {"enabled": True, "synchronized": False}},
        "log_level": "warning",
    },
}
"""What is passed on to DeepSpeed: none of it may change a loss, or what a checkpoint keeps."""


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
    found = {"before": asdict(before), "after": asdict(train(engine, range(SAVED_AT, UPDATES)))}
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
    stage = int(zero["stage"])
    as_ours = configured(folder, ours(stage, zero), config)
    return {
        "stage": stage,
        "precision": config.precision,
        "theirs": histories(folder, config),
        "ours": histories(folder, as_ours),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=200),
        cpu=True,
        library_log=folder / f"library_log{collectives.rank()}.log",
    )
    cases: dict[str, dict | Path] = {} if len(sys.argv) > 2 else dict(SETTINGS)
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
