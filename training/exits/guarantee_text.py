"""A guarantee as text: what was tested, and what came of it."""

import re
from collections.abc import Sequence

from training.console.amounts import short_number
from training.console.table import aligned
from training.exits.guarantee import Guarantee, TestedExit
from training.exits.quality_loss import IN_WORDS
from training.runs.loaded import Run

_SHOWN = 6


def guarantee_text(run: Run, guarantee: Guarantee) -> str:
    """What was tested and what came of it, as text."""
    rows = [
        (
            f"fixed:{guarantee.full_depth} (full depth)",
            "0",
            "–",
            f"{guarantee.full_depth:.2f}",
            short_number(guarantee.full_flops_per_token),
            "1.00",
            "",
        )
    ]
    for each in _last_of_each(guarantee.tested):
        if isinstance(each, int):
            rows.append((f"  {each} safer ones, all hold", "", "", "", "", "", ""))
            continue
        share = each.flops_per_token / guarantee.full_flops_per_token
        verdict = (
            "★"
            if guarantee.found and each.exit == guarantee.exit
            else ("holds" if each.holds else "not shown")
        )
        flops = short_number(each.flops_per_token)
        short = each.exit if len(each.exit) <= 44 else f"{each.exit[:43]}…"
        rows.append(
            (
                short,
                f"{each.risk:.5f}",
                f"{each.p_value:.3g}",
                f"{each.mean_steps:.2f}",
                flops,
                f"{share:.2f}",
                verdict,
            )
        )
    head = ("exit", "lost", "p-value", "steps", "FLOPs a token", "of full", "")
    lines = [
        f"{run.path}, {guarantee.sequences} fresh sequences like those of the "
        f"{guarantee.split} split\n"
        f"lost: the {IN_WORDS[guarantee.loss]}\n",
        aligned(head, rows),
        "",
        guarantee.in_words(),
    ]
    if (chosen := guarantee.chosen) is not None:
        saved = 1 - chosen.flops_per_token / guarantee.full_flops_per_token
        lines.append(
            f"★ {chosen.exit} takes {chosen.mean_steps:.2f} steps and saves {saved:.1%} of the "
            "FLOPs."
        )
    return "\n".join(lines)


def _last_of_each(tested: Sequence[TestedExit]) -> list[TestedExit | int]:
    """Of each order of tests the last few, and before them how many are left out. One ends where a
    setting fails."""
    shown: list[TestedExit | int] = []
    start = 0
    for number, each in enumerate(tested, start=1):
        last = (
            number == len(tested)
            or not each.holds
            or _kind(tested[number].exit) != _kind(each.exit)
        )
        if last:
            left_out = max(0, number - start - _SHOWN)
            shown += [left_out] * (left_out > 0) + list(tested[start + left_out : number])
            start = number
    return shown


def _kind(spec: str) -> str:
    return re.split(r"[:,]\w+=|:\d", spec)[0]
