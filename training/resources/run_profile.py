"""What a trained run computes, where its time goes, and what halting and packing save."""

import math
from functools import partial
from typing import Any

import torch

from act.accounting.counted import flops_by_torch
from act.accounting.executed_flops import computed_flops, mean_steps
from act.accounting.flops import count_flops
from act.loop.backprop import Checkpointed
from training.exits.exit import LEARNED, Exit
from training.resources.break_even import MODES, break_even
from training.resources.workload import TimedCase, Workload, race, unchanged
from training.runs.loaded import Run


def profile(run: Run, split: str, batch_size: int, repeats: int) -> dict[str, Any]:
    """All figures of one batch; the run's model is as it was afterwards. Seconds, FLOPs, and shares
    of 1.

    Args:
        run: a trained run.
        split: of its task, from which the first examples are taken.
        batch_size: how many.
        repeats: of which medians are taken.
    """
    batch = run.task.batch(split, 0, batch_size)
    with unchanged(run.model):
        work = Workload(run, batch)
        figures: dict[str, Any] = {
            "run": run.path,
            "split": split,
            "batch_size": batch_size,
            "tokens": work.tokens,
            "length": batch.valid.shape[1],
            "max_steps": run.model.recurrence.max_steps,
            "path": work.path,
            "device": run.device.type,
            "threads": torch.get_num_threads(),
            "trained_with_threads": run.config.launch.threads,
            "repeats": repeats,
        }
        figures |= {name: _of_one_batch(work, training) for name, training in MODES.items()}
        figures["fixed_depth"] = _against_fixed_depth(
            work, figures["inference"]["mean_steps"], repeats
        )
        for name, training in MODES.items():
            seconds = figures["fixed_depth"][0][name]["seconds"]
            figures[name] |= {"seconds": seconds, "tokens_per_second": work.tokens / seconds}
            figures[name]["shares"] = work.shares(TimedCase(training), repeats)
        figures["break_even"] = (
            break_even(run, batch, repeats) if run.model.recurrence.block.packable else None
        )
    return figures


def _of_one_batch(work: Workload, training: bool) -> dict[str, Any]:
    """Steps and FLOPs of the run's own halting and path."""
    case = TimedCase(training)
    model = work.run.model
    trace = work.trace(case)
    packs = work.packs(case)
    checkpointed = isinstance(model.recurrence.backprop, Checkpointed)
    formula = count_flops(model, trace.valid.shape[1], checkpointed, inference=not training)
    steps = mean_steps(trace)
    computed = computed_flops(model, trace, packs, training)
    counted = flops_by_torch(partial(work.trace, case))
    return {
        "path": "packed" if packs else "dense",
        "mean_steps": steps,
        "executed_flops_per_token": formula.training(steps) if training else formula.forward(steps),
        "computed_flops_per_token": computed / work.tokens,
        "counted_flops_per_token": counted / work.tokens,
        "computed_over_counted": computed / counted,
    }


def _against_fixed_depth(work: Workload, steps: float, repeats: int) -> list[dict[str, Any]]:
    """A row for the run's own halting, one for all tokens at its mean depth rounded up, one for all
    at the limit."""
    depths = sorted({math.ceil(round(steps, 6)), work.run.model.recurrence.max_steps})
    exits = [LEARNED, *(Exit(f"fixed:{depth}", depth) for depth in depths)]
    rows: list[dict[str, Any]] = [{"exit": each.name, "depth": each.steps} for each in exits]
    for name, training in MODES.items():
        cases = [TimedCase(training, each) for each in exits]
        measured = race([partial(work.seconds, case) for case in cases], repeats)
        for row, case, seconds in zip(rows, cases, measured, strict=True):
            trace = work.trace(case)
            flops = computed_flops(work.run.model, trace, work.packs(case), training) / work.tokens
            row[name] = {
                "mean_steps": mean_steps(trace),
                "flops_per_token": flops,
                "seconds": seconds,
            }
    return rows
