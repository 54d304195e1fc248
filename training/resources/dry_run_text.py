"""A dry run as text."""

import textwrap
from pathlib import Path

from training.config.run_config import RunConfig
from training.console.amounts import counted, short_number
from training.console.table import aligned
from training.resources.dry_run import DryRun, plan
from training.resources.dry_run_tables import (
    activation_table,
    memory_table,
    traffic_table,
)
from training.runs.run_path import RunPath

_INDENT = "  "
_COLUMNS = 80


def dry_run_text(
    config: RunConfig,
    ranks: int = 1,
    resume: RunPath | None = None,
    allow_changed_data: bool = False,
) -> str:
    """The dry run of a config as text of at most 80 columns.

    Args:
        config: the run.
        ranks: how many would train it.
        resume: the run that would go on.
        allow_changed_data: it may go on with other data than it was trained on.

    Raises:
        UsageError: for whatever training would refuse: parts that cannot work together, a ds_config
            that contradicts the config, a batch that the ranks cannot share, a folder that cannot
            be made. What another machine might have, a GPU or a library, is noted instead.
    """
    found = plan(config, ranks, resume, allow_changed_data)
    name = config.recipe if ":" not in config.recipe else Path(config.recipe).name
    parts = (
        f"Dry run of {name} for {counted(ranks, 'rank')}: nothing is trained or written.",
        _pairs(found.choices),
        _parameters(found),
        _flops(found),
        memory_table(found.memory, found.own, found.peaks),
        activation_table(
            found.own, found.activations, found.sequences, found.length, found.max_steps
        ),
        traffic_table(found.communication_volume, found.own) if found.communication_volume else "",
        _wrapped("notes", found.notes) if found.notes else "",
    )
    return "\n\n".join(part for part in parts if part)


def _parameters(found: DryRun) -> str:
    total = found.parameters["total"]
    rows = [
        [name, f"{count:,}", f"{100 * count / total:.1f}%"]
        for name, count in found.parameters.items()
    ]
    return _table(["parameters", "", ""], rows)


def _flops(found: DryRun) -> str:
    flops = found.flops
    last = found.max_steps
    rows = [
        [
            f"at {counted(steps, 'step')}",
            short_number(flops.forward(steps)),
            short_number(flops.training(steps)),
        ]
        for steps in sorted({1, last})
    ]
    rows.append(
        [
            "each step more",
            short_number(flops.step),
            short_number(flops.training(1) - flops.training(0)),
        ]
    )
    again = (
        f" + n x {short_number(flops.recomputed)}, computed again on the way back"
        if flops.recomputed
        else ""
    )
    less = f" - {short_number(flops.unasked)}" if flops.unasked else ""
    training = f"training(n) = 3 x forward(n){less}{again}"
    formulas = f"forward(n) = {short_number(flops.once)} + n x {short_number(flops.step)}", training
    least, most = (
        short_number(found.tokens_per_update * flops.training(steps)) for steps in (1, last)
    )
    tokens = f"an update of {found.tokens_per_update:,} tokens"
    update = f"{tokens}: {least} (1 step each) to {most} ({counted(last, 'step')} each)"
    lines = (*formulas, f"attention counted over all {found.length:,} positions", update)
    return "\n".join(
        [
            _table(["FLOPs per token", "forward", "training"], rows),
            *(_INDENT + line for line in lines),
        ]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Columns under a head, the rows indented."""
    return aligned(head, [[_INDENT + row[0], *row[1:]] for row in rows])


def _pairs(pairs: dict[str, str]) -> str:
    width = max(map(len, pairs)) + 2
    return "\n".join(
        textwrap.fill(
            says, _COLUMNS, initial_indent=name.ljust(width), subsequent_indent=" " * width
        )
        for name, says in pairs.items()
    )


def _wrapped(title: str, notes: tuple[str, ...]) -> str:
    lines = [
        textwrap.fill(note, _COLUMNS, initial_indent="  ! ", subsequent_indent="    ")
        for note in notes
    ]
    return "\n".join([title, *lines])
