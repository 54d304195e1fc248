"""`ponder profile`: what a trained run computes, where its time goes, and what halting and packing
save."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from act.accounting.counted import flops_by_torch
from act.accounting.executed_flops import computed_flops, mean_steps
from act.accounting.flops import count_flops
from act.loop.backprop import Checkpointed
from training.cli.evaluate import check_counts
from training.console.output_files import check_absent, write_text
from training.console.screen import thousands
from training.console.table import aligned
from training.exits.exit import Exit
from training.resources.break_even import MODES, break_even
from training.resources.section_timer import BACKWARD, SECTIONS
from training.resources.workload import LEARNED, TimedCase, Workload, race, unchanged
from training.runs.loaded import Run, load_run, newest_run
from training.runs.metrics import to_json

_CLOSE = 0.01
"""By how much the formula may miss what torch counts before that is said."""


@dataclass(frozen=True)
class Options:
    """What a trained run computes, where its time goes, and what halting and packing save."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """run folder, or one of its checkpoints; the newest run if left out"""
    batch_size: int | None = None
    """examples computed at once; those of one forward pass of the run's training if left out"""
    split: Literal["train", "validation", "test"] = "test"
    """which examples"""
    repeats: int = 5
    """how often each is timed; medians are shown"""
    json: Path | None = None
    """write the figures"""


def main(argv: Sequence[str]) -> int:
    """Profiles; gives the exit code."""
    options = tyro.cli(Options, args=list(argv), prog="ponder profile", description=Options.__doc__)
    check_counts(batch_size=options.batch_size, repeats=options.repeats)
    check_absent(options.json)
    run = load_run(Path(options.run) if options.run is not None else newest_run())
    batch_size = options.batch_size or run.config.batch_size // run.config.accumulation
    figures = profile(run, options.split, batch_size, options.repeats)
    print(profile_text(figures))
    if options.json is not None:
        write_text(options.json, to_json(figures, indent=2) + "\n")
        print(f"\nwrote {options.json}")
    return 0


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
            "run": str(run.folder),
            "split": split,
            "batch_size": batch_size,
            "tokens": work.tokens,
            "length": batch.valid.shape[1],
            "max_steps": run.model.recurrence.max_steps,
            "path": work.path,
            "device": run.device.type,
            "threads": torch.get_num_threads(),
            "trained_with_threads": run.config.threads,
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
    way = TimedCase(training)
    model = work.run.model
    trace = work.trace(way)
    packs = work.packs(way)
    checkpointed = isinstance(model.recurrence.backprop, Checkpointed)
    formula = count_flops(model, trace.valid.shape[1], checkpointed, inference=not training)
    steps = mean_steps(trace)
    computed = computed_flops(model, trace, packs, training)
    counted = flops_by_torch(partial(work.trace, way))
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
        ways = [TimedCase(training, each) for each in exits]
        taken = race([partial(work.seconds, way) for way in ways], repeats)
        for row, way, seconds in zip(rows, ways, taken, strict=True):
            trace = work.trace(way)
            flops = computed_flops(work.run.model, trace, work.packs(way), training) / work.tokens
            row[name] = {
                "mean_steps": mean_steps(trace),
                "flops_per_token": flops,
                "seconds": seconds,
            }
    return rows


def profile_text(figures: dict[str, Any]) -> str:
    """The figures of `profile` as text."""
    parts = [
        f"{figures['run']}, {figures['split']} split, {figures['batch_size']} examples of at most "
        f"{figures['length']} positions, {figures['tokens']:,} tokens\n{_how(figures)}",
        _flops(figures),
        _time(figures),
        _saving(figures["fixed_depth"]),
        _break_even(figures),
    ]
    return "\n\n".join(parts)


def _how(figures: dict[str, Any]) -> str:
    paths = " and ".join(f"{figures[name]['path']} in {name}" for name in MODES)
    threads = figures["threads"]
    trained = figures["trained_with_threads"]
    says = (
        f"path {figures['path']}: {paths}; {figures['device']}, {threads} "
        f"thread{'s' if threads > 1 else ''}"
    )
    says += (
        ""
        if trained in (None, threads)
        else f" (trained with {trained}: OMP_NUM_THREADS={trained})"
    )
    return f"{says}, medians of {figures['repeats']}"


def _flops(figures: dict[str, Any]) -> str:
    of = [figures[name] for name in MODES]
    rows = [
        ("steps a token", *(f"{each['mean_steps']:.2f}" for each in of)),
        ("executed: by the steps", *(thousands(each["executed_flops_per_token"]) for each in of)),
        ("computed: and padding", *(thousands(each["computed_flops_per_token"]) for each in of)),
        ("counted by torch", *(thousands(each["counted_flops_per_token"]) for each in of)),
        ("computed / counted", *(f"{each['computed_over_counted']:.4f}" for each in of)),
    ]
    text = aligned(("FLOPs a token", "inference", "training"), rows)
    if any(abs(each["computed_over_counted"] - 1) > _CLOSE for each in of):
        text += (
            "\nThe formula takes gradients to go back through every step and all weights, and a "
            "rule to apply its\n"
            "weights once a step; where torch counts otherwise, that is not so in this run."
        )
    return text


def _time(figures: dict[str, Any]) -> str:
    of = [figures[name] for name in MODES]
    rows = [
        ("milliseconds", *(f"{1e3 * each['seconds']:.3g}" for each in of)),
        ("tokens a second", *(thousands(each["tokens_per_second"]) for each in of)),
    ]
    for section in SECTIONS:
        inference, training = (f"{each['shares'][section]:.1%}" for each in of)
        rows.append((f"share of {section}", "–" if section == BACKWARD else inference, training))
    return aligned(("time a batch", "inference", "training"), rows)


def _saving(rows: list[dict[str, Any]]) -> str:
    lines = []
    own = rows[0]
    for row in rows:
        line = [row["exit"]]
        for name in MODES:
            flops = row[name]["flops_per_token"]
            seconds = row[name]["seconds"]
            line += [f"{row[name]['mean_steps']:.2f}", thousands(flops)]
            line += [f"{flops / own[name]['flops_per_token']:.2f}", f"{1e3 * seconds:.3g}"]
            line.append(f"{seconds / own[name]['seconds']:.2f}")
        lines.append(line)
    costs = ("FLOPs", "× own", "ms", "× own")
    head = ("against fixed depth", "inference: steps", *costs, "training: steps", *costs)
    return aligned(head, lines)


def _break_even(figures: dict[str, Any]) -> str:
    found = figures["break_even"]
    if found is None:
        return "This block computes every position at once: there is no packed path to compare."
    rows = []
    for row in found["rows"]:
        cells = [(f"{row[name]['ratio']:.2f}", row[name]["auto"]) for name in MODES]
        rows.append((f"batch {row['batch_size']}", f"{row['tokens']:,}", *cells[0], *cells[1]))
    head = (
        "packed time / dense time",
        "tokens",
        "inference",
        "auto takes",
        "training",
        "auto takes",
    )
    return "\n".join((aligned(head, rows), *(_verdict(figures, name) for name in MODES)))


def _verdict(figures: dict[str, Any], name: str) -> str:
    """From where packing pays, and whether `auto` knows."""
    found = figures["break_even"]
    own = figures["batch_size"]
    pays = found["pays_from"][name]
    auto = found["auto_packs_from"][name]
    measured = f"does not pay at {own}" if pays is None else f"pays from a batch of {pays} on"
    if auto is None:
        known = "is dense at any size"
    elif auto <= 1:
        known = "packs at any size"
    else:
        known = f"falls back to dense below {auto:,} tokens"
    took = found["rows"][-1][name]["auto"]
    return f"{name}: packing {measured}; --loop.path auto {known}: {took} at {own}"
