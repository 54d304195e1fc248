"""A guarantee as text: what was tested, and what came of it."""

from collections.abc import Sequence
from itertools import groupby

from training.console.amounts import counted, short_number
from training.console.table import aligned
from training.exits.guarantee import Guarantee, TestedExit
from training.exits.quality_loss import IN_WORDS
from training.runs.loaded import Run

_SHOWN = 6
_LONGEST = 44
_SMALLEST = 0.0001  # p-values below are told as below it
_HEAD = ("exit", "lost", "p-value", "steps", "FLOPs a token", "of full", "")


def guarantee_text(run: Run, guarantee: Guarantee) -> str:
    """What was tested and what came of it, as text."""
    parts = [
        f"{run.path}, {counted(guarantee.sequences, 'fresh sequence')} like those of the "
        f"{guarantee.split} split\n"
        f"lost: the {IN_WORDS[guarantee.loss]}",
        _table(guarantee),
        guarantee.in_words(),
    ]
    if (chosen := guarantee.chosen) is not None:
        saved = 1 - chosen.flops_per_token / guarantee.full_flops_per_token
        parts[-1] += (
            f"\n★ {chosen.exit} takes {chosen.mean_steps:.2f} steps and saves {saved:.1%} of the "
            "FLOPs."
        )
    return "\n\n".join(parts)


def _table(guarantee: Guarantee) -> str:
    """Full depth, and then each order of tests under a heading; the columns are one table's."""
    full = (
        f"fixed:{guarantee.full_depth} (full depth)",
        "0",
        "–",
        f"{guarantee.full_depth:.2f}",
        short_number(guarantee.full_flops_per_token),
        "1.00",
        "",
    )
    orders = [list(found) for _, found in groupby(guarantee.tested, lambda each: each.order)]
    shown = [found[-_SHOWN:] for found in orders]
    rows = [full, *(_row(each, guarantee) for found in shown for each in found)]
    head, first, *others = aligned(_HEAD, rows).split("\n")
    lines = [head, first]
    for (found, last), heading in zip(
        zip(orders, shown, strict=True), _headings(guarantee, orders), strict=True
    ):
        lines += ["", heading]
        if left_out := len(found) - len(last):
            lines.append(f"{counted(left_out, 'safer one')}, all hold")
        lines += others[: len(last)]
        others = others[len(last) :]
    return "\n".join(lines)


def _row(each: TestedExit, guarantee: Guarantee) -> tuple[str, ...]:
    share = each.flops_per_token / guarantee.full_flops_per_token
    is_taken = guarantee.found and each.exit == guarantee.exit
    verdict = "★" if is_taken else "holds" if each.holds else "not shown"
    return (
        each.exit if len(each.exit) <= _LONGEST else f"{each.exit[: _LONGEST - 1]}…",
        f"{each.risk:.5f}",
        f"{each.p_value:.4f}" if each.p_value >= _SMALLEST else f"<{_SMALLEST}",
        f"{each.mean_steps:.2f}",
        short_number(each.flops_per_token),
        f"{share:.2f}",
        verdict,
    )


def _headings(guarantee: Guarantee, orders: Sequence[Sequence[TestedExit]]) -> list[str]:
    """One for each order: the exit as it was asked for, and where its tests begin."""
    headings = []
    before = None
    for found in orders:
        begins = [spec for spec in guarantee.among if found[0].exit.startswith(spec)]
        spec = max(begins, key=len, default=found[0].exit)
        start = "its trained value" if spec == before else "its safest setting"
        headings.append(f"{spec}, from {start} on:")
        before = spec
    return headings
