"""One rank: what a real engine holds and sends, for each way to share; rank 0 writes it down."""

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from memory_shapes import WAYS, make_config

from benchmarks.memory.case import held_tensors, resident
from training.distributed import collectives
from training.distributed.process_group import leave
from training.engine import start


def given_back() -> float:
    """The share of freed blocks of 8 MB, with small ones that stay between them, that the process
    no longer has."""
    small, blocks = [], []
    for _ in range(2):  # the second time, glibc by itself would have learned to keep such blocks
        blocks.clear()
        for _ in range(16):
            blocks.append(torch.ones(2_000_000))
            small.append(torch.ones(1000))
    before, size = resident("VmRSS"), sum(block.nbytes for block in blocks)
    blocks.clear()
    return (before - resident("VmRSS")) / size


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    start(
        timedelta(seconds=60), cpu=True, library_log=folder / f"library_log{collectives.rank()}.log"
    )
    freed = given_back()
    own = folder / str(collectives.rank())
    own.mkdir()
    found = {way: asdict(held_tensors(make_config(way, own))) for way in WAYS}
    if collectives.rank() == 0:
        (folder / "found.json").write_text(json.dumps({"ways": found, "given_back": freed}))
    leave(0)


if __name__ == "__main__":
    main()
