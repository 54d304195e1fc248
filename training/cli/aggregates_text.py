"""`ponder show --aggregates`: the figures that a paper would print of a run's maps, with
intervals."""

from halting.maps.aggregates import Aggregates, Group, Share
from halting.maps.estimate import Estimate
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name, facts
from halting.maps.viewers.visible_text import visible
from training.console.amounts import counted
from training.console.table import aligned
from training.exits.exit import Exit
from training.runs.loaded import Run
from training.tasks.task import Batch

_MOST_ROWS = 24
_IN_ASCII = str.maketrans({"·": "|", "–": "-"})


def deeper_map(run: Run, batch: Batch, max_steps: int) -> PonderMap:
    """The map of a batch when all its tokens take all steps, by the model's own readout."""
    full_depth = Exit(f"fixed:{max_steps}", max_steps)
    with full_depth.applied_to(run):
        return run.ponder_map(batch, max_steps)


def text(found: Aggregates, ponder_map: PonderMap, ascii_only: bool = False) -> str:
    """The figures as tables; intervals in brackets."""
    parts = [
        " · ".join(facts(ponder_map)),
        _counts(found),
        _overall(found),
    ]
    names = {
        "difficulty": difficulty_name(ponder_map),
        "type": "type of token",
        "correctness": "answer",
    }
    parts += [_group_table(names.get(by, by), groups) for by, groups in found.by.items() if groups]
    parts += [_calibration_table(found)] if found.calibration else []
    said = "\n\n".join(parts)
    return (
        said.translate(_IN_ASCII).encode("ascii", "backslashreplace").decode()
        if ascii_only
        else said
    )


def _counts(found: Aggregates) -> str:
    return (
        f"{counted(found.tokens, 'token')} of {counted(found.sequences, 'sequence')}; in brackets "
        "95 % of 1,000 bootstrap resamples of the sequences"
    )


def _overall(found: Aggregates) -> str:
    rows = [
        ("executed steps a token", f"{found.steps:.2f}"),
        ("ponder, steps a token", f"{found.ponder:.2f}"),
    ]
    rows.append(("right, of tokens with a target", _percent(found.accuracy)))
    shares = (
        ("overthinking: after the answer no longer changed", found.overthinking),
        ("wrong, though an earlier step was right", found.degraded),
        (
            "underthinking: wrong, and the chance of the right answer still rose",
            found.still_improving,
        ),
        (
            f"underthinking: wrong, and right had all taken {found.deeper_steps} steps",
            found.right_if_deeper,
        ),
    )
    told = [(name, *_both(share)) for name, share in shares if share is not None]
    spent = aligned(
        ("share of compute (executed token-steps), and of tokens", "compute", "tokens"), told
    )
    return aligned(("all tokens", ""), rows) + (f"\n\n{spent}" if told else "")


def _both(share: Share) -> tuple[str, str]:
    return _percent(share.compute), _percent(share.tokens)


def _percent(of: Estimate) -> str:
    limits = [None if each is None else 100 * each for each in (of.value, of.low, of.high)]
    shown = Estimate(*limits)
    return f"{shown:.1f} %" if shown.value is not None else "–"


def _group_table(name: str, groups: list[Group]) -> str:
    """A row a group; ponder beside the executed steps where the rule means another depth."""
    apart = any(group.ponder != group.steps for group in groups)
    rows = []
    for group in groups[:_MOST_ROWS]:
        shown = visible(group.name, keep_spaces=len(group.name) > 1)
        row = [shown, f"{group.tokens:,}", f"{group.sequences:,}", f"{group.steps:.2f}"]
        rows.append([*row, f"{group.ponder:.2f}"] if apart else row)
    head = [name, "tokens", "sequences", "steps"] + (["ponder"] if apart else [])
    more = len(groups) - len(rows)
    return aligned(head, rows) + (f"\n({more} more)" if more else "")


def _calibration_table(found: Aggregates) -> str:
    parts = []
    says = {"score": "the rule's score", "confidence": "the answer's probability"}
    for name, each in found.calibration.items():
        rows = [(f"{one.score:.4g}", f"{one.entries:,}", _percent(one.right)) for one in each.bins]
        table = aligned((says[name], "entries", "right"), rows)
        known = [f"over {each.over}"]
        known += [] if each.auroc is None else [f"AUROC {each.auroc:.3f}"]
        known += [] if each.error is None else [f"calibration error {each.error:.3f}"]
        parts.append(table + "\n(" + "; ".join(known) + ")")
    return "\n\n".join(parts)
