"""The figures of `profile` as text."""

from typing import Any

from training.console.amounts import counted, in_ms, short_number
from training.console.table import aligned
from training.resources.break_even import MODES
from training.resources.section_timer import BACKWARD, SECTIONS

_CLOSE = 0.01
"""By how much the formula may miss what torch counts before that is said."""


def profile_text(figures: dict[str, Any]) -> str:
    """The figures of `profile` as text."""
    parts = [
        f"{figures['run']}, {figures['split']} split, "
        f"{counted(figures['batch_size'], 'example')} of at most "
        f"{counted(figures['length'], 'position')}, {figures['tokens']:,} tokens\n{_how(figures)}",
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
    says = f"path {figures['path']}: {paths}; {figures['device']}, {counted(threads, 'thread')}"
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
        (
            "executed: by the steps",
            *(short_number(each["executed_flops_per_token"]) for each in of),
        ),
        ("computed: and padding", *(short_number(each["computed_flops_per_token"]) for each in of)),
        ("counted by torch", *(short_number(each["counted_flops_per_token"]) for each in of)),
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
        ("milliseconds", *(in_ms(each["seconds"]) for each in of)),
        ("tokens a second", *(short_number(each["tokens_per_second"]) for each in of)),
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
            line += [f"{row[name]['mean_steps']:.2f}", short_number(flops)]
            line += [f"{flops / own[name]['flops_per_token']:.2f}", in_ms(seconds)]
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
        rows.append((f"batch {row['batch_size']:,}", f"{row['tokens']:,}", *cells[0], *cells[1]))
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
    measured = f"does not pay at {own}" if pays is None else f"pays from a batch of {pays:,} on"
    if auto is None:
        known = "is dense at any size"
    elif auto <= 1:
        known = "packs at any size"
    else:
        known = f"falls back to dense below {auto:,} tokens"
    took = found["rows"][-1][name]["auto"]
    return f"{name}: packing {measured}; --loop.path auto {known}: {took} at {own}"
