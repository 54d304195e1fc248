"""From which batch size on the packed path is faster than the dense one."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from act.loop.recurrence import Recurrence
from training.resources.workload import TimedCase, Workload, race
from training.runs.loaded import Run
from training.tasks.task import Batch

MODES = {"inference": False, "training": True}
_MOST = 2**24  # tokens, beyond what anybody packs into one batch


def break_even(run: Run, batch: Batch, repeats: int) -> dict[str, Any]:
    """Packed against dense on the first examples of a batch, at several sizes; within `unchanged`.

    Returns:
        rows: of each size `batch_size`, `tokens`, and for inference and training seconds `packed`
            and `dense`, their `ratio`, and which path `auto` takes.
        pays_from: for inference and training the smallest size from which packing is faster, there
            and at all larger ones; None where it is not at the largest.
        auto_packs_from: tokens from which `--loop.path auto` packs; None for never.

    Args:
        run: whose model and own halting it is; its block can be packed.
        batch: the largest size.
        repeats: of which medians are taken.
    """
    rows = []
    for size in sizes(len(batch.valid)):
        workload = Workload(run, batch.rows(0, size))
        row: dict[str, Any] = {"batch_size": size, "tokens": workload.tokens}
        for name, training in MODES.items():
            cases = (TimedCase(training, path="packed"), TimedCase(training, path="dense"))
            packed, dense = race([partial(workload.seconds, case) for case in cases], repeats)
            auto = "packed" if workload.packs(TimedCase(training, path="auto")) else "dense"
            row[name] = {"packed": packed, "dense": dense, "ratio": packed / dense, "auto": auto}
        rows.append(row)
    found = {
        name: pays_from([(row["batch_size"], row[name]["ratio"]) for row in rows]) for name in MODES
    }
    auto = {
        name: auto_packs_from(run.model.recurrence, training) for name, training in MODES.items()
    }
    return {"rows": rows, "pays_from": found, "auto_packs_from": auto}


def sizes(largest: int) -> list[int]:
    """1, 2, 4 … and the largest."""
    return [*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest]


def pays_from(ratios: Sequence[tuple[int, float]]) -> int | None:
    """The smallest size whose ratio is below 1, as are those of all larger ones; None if there is
    none.

    Args:
        ratios: (size, packed time over dense time), sizes ascending.
    """
    found = None
    for size, ratio in reversed(ratios):
        if ratio >= 1:
            break
        found = size
    return found


def auto_packs_from(recurrence: Recurrence, training: bool) -> int | None:
    """The fewest tokens of a batch that `auto` packs; None for never. Within `unchanged`."""
    recurrence.path = "auto"
    with torch.set_grad_enabled(training):
        tokens = bisect_left(range(1, _MOST), True, key=recurrence.packs) + 1
    return tokens if tokens < _MOST else None
