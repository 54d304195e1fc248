"""One rank: how it starts, and how it ends when another rank does nothing. Writes what it saw as
JSON."""

import json
import os
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import torch
from tiny import make_config, make_model, train

from halting import UsageError
from training.distributed import collectives
from training.engine import DeepSpeedEngine, LocalEngine, start, under_launcher


def alone(folder: Path) -> dict:
    """A plain process: a world of one."""
    found: dict = {"under_launcher": under_launcher()}
    device = start(cpu=True, library_log=folder / "library_log.log").device
    import deepspeed
    from deepspeed.comm.torch import build_shm_op
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    found["shared_memory_op"] = ShareMemCommBuilder.NAME
    found["known_ops"] = list(deepspeed.ops.__compatible_ops__)
    found["shared_memory_built"] = build_shm_op() is not None
    deepspeed.utils.logger.warning("a line of DeepSpeed's")
    warnings.warn("a warning of Python's", stacklevel=1)

    for name, section in {"typo": {"stage": 2, "overlap_com": True}, "zero2": {"stage": 2}}.items():
        (folder / f"{name}.json").write_text(json.dumps({"zero_optimization": section}))
    try:
        DeepSpeedEngine(make_model(), make_config(folder / "typo.json"))
    except UsageError as error:
        found["typo"] = str(error)
    config = make_config(folder / "zero2.json", accumulation=1)
    engine, reference = (
        DeepSpeedEngine(make_model(), config),
        LocalEngine(make_model(), config.optimizer, device),
    )
    found["losses"] = train(engine, range(3), accumulation=1).losses
    found["reference"] = train(reference, range(3), accumulation=1).losses
    found["compiler_imported"] = "torch._inductor.compile_fx" in sys.modules
    engine.close()
    found["distributed_after_close"] = collectives.is_distributed()
    return found


def hang(folder: Path) -> dict:
    """Rank 1 stops taking part; rank 0 must not wait for ever. (ZeRO-2 reduces gradients in
    DeepSpeed's own groups.)"""
    start(
        timedelta(seconds=4), cpu=True, library_log=folder / f"library_log{os.environ['RANK']}.log"
    )
    (folder / "zero2.json").write_text('{"zero_optimization": {"stage": 2}}')
    engine = DeepSpeedEngine(make_model(), make_config(folder / "zero2.json", accumulation=1))
    collectives.barrier()
    noticed = folder / "noticed"
    if collectives.rank() == 1:
        while not noticed.exists():
            time.sleep(0.1)
        os._exit(0)  # the group is broken: an orderly end would wait
    begun = time.monotonic()
    try:
        train(engine, range(1), accumulation=1)
        found = {"waited": 0.0, "error": "none: it trained alone"}
    except RuntimeError as error:
        found = {"waited": time.monotonic() - begun, "error": str(error)}
    noticed.touch()
    return found


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    found = {"alone": alone, "hang": hang}[sys.argv[1]](folder)
    (folder / "found.json").write_text(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
