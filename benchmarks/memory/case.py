"""What a real engine holds and sends, on this rank: tensors, the process, collectives."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory.live_tensors import LiveTensors
from training.build import build_all
from training.config.run_config import RunConfig
from training.distributed import collectives
from training.engine import DeepSpeedEngine

UPDATES = 4
"""The first ones make moments and learn in which order parameters are used."""


@dataclass(frozen=True)
class Tensors:
    """Bytes of tensors in the last update, on the rank that holds most.

    Args:
        after_forward: between the first forward pass and its backward pass.
        held: between the last backward pass and the update.
        sent: bytes that a rank sends for an update, by ring collectives.
    """

    after_forward: int
    held: int
    sent: float


def held_tensors(config: RunConfig) -> Tensors:
    """Trains a few updates; called by all ranks."""
    live = LiveTensors()
    after_forward = 0
    held = 0
    sent = 0.0
    with live:
        built = build_all(config)
        engine = DeepSpeedEngine(built.model, config)
        for update in range(UPDATES):
            with logged_collectives() as logged:
                for micro in range(config.accumulation):
                    output = _forward(engine, built, config, update, micro)
                    after_forward = after_forward if micro else live.bytes()
                    engine.backward(output.pop())
                held = live.bytes()
                engine.step(1e-4)
            sent = sum(logged)
    most = [
        max(collectives.all_gather(float(value), engine.device)) for value in (after_forward, held)
    ]
    engine.engine.destroy()
    return Tensors(int(most[0]), int(most[1]), sent)


def process_peak(config: RunConfig) -> int:
    """The most resident memory of the process beyond what it had before, over the later updates, on
    the rank that needs most; called by all ranks of a process that has trained something small
    before."""
    gc.collect()
    before = resident("VmRSS")
    peak = 0
    built = build_all(config)
    engine = DeepSpeedEngine(built.model, config)
    for update in range(UPDATES):
        forget_peak()
        for micro in range(config.accumulation):
            engine.backward(_forward(engine, built, config, update, micro).pop())
        engine.step(1e-4)
        peak = max(peak, resident("VmHWM") - before) if update >= UPDATES // 2 else 0
    most = max(collectives.all_gather(float(peak), engine.device))
    engine.engine.destroy()
    return int(most)


def _forward(
    engine: DeepSpeedEngine, built: Any, config: RunConfig, update: int, micro: int
) -> list:
    """The loss, in a list from which it is taken: nothing else holds on to it during the backward
    pass."""
    rows = config.batch_size // (collectives.world_size() * config.accumulation)
    start = (update * config.accumulation + micro) * collectives.world_size() + collectives.rank()
    batch = built.task.batch("train", start * rows, rows)
    terms = built.objective(engine.forward(batch), batch, built.cost)
    return [(terms.task + terms.cost) / batch.tokens.numel()]


@contextmanager
def logged_collectives() -> Iterator[list[float]]:
    """Gives a list which afterwards holds what this rank sent in each kind of collective that
    DeepSpeed's own log noted, were they rings: 2·(R − 1)/R of what is summed, (R − 1)/R of what is
    gathered or scattered."""
    from deepspeed.comm.comm import comms_logger

    ranks = collectives.world_size()
    sent = []
    shares = {
        "all_reduce": 2 * (ranks - 1) / ranks,
        "all_gather_into_tensor": ranks - 1.0,
    }  # of this rank's share
    shares["reduce_scatter_tensor"] = (ranks - 1) / ranks
    comms_logger.comms_dict.clear()
    comms_logger.enabled = True
    comms_logger.prof_all = True
    try:
        yield sent
    finally:
        comms_logger.enabled = False
        for name, sizes in comms_logger.comms_dict.items():
            sent.append(
                shares.get(name, 0.0) * sum(size * entry[0] for size, entry in sizes.items())
            )


def resident(which: str) -> int:
    """VmRSS, what is resident, or VmHWM, the most since `forget_peak`: bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {which}")


def forget_peak() -> None:
    """Has VmHWM start again from what is resident."""
    Path("/proc/self/clear_refs").write_text("5")
