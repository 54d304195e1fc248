"""The aggregates of a ponder map as one picture: mean steps by group, calibration, and wasted
compute."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from halting.maps.aggregates import Aggregates, Group
from halting.maps.calibration import Calibration
from halting.maps.estimate import Estimate
from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name, facts, percent
from halting.maps.viewers.colours import WRONG, colour_at
from halting.maps.viewers.picture.canvas import MARGIN, WIDTH, Canvas, paint
from halting.maps.viewers.picture.counts import draw_counts, short_count
from halting.maps.viewers.picture.panels import FAINT, plain_axes, set_title
from halting.maps.viewers.picture.strip import shortened
from halting.maps.viewers.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 2.7
_WIDE = 2.85
_TOP = 1.55
_NEXT_ROW = _PANEL + 1.15
_NEXT_COLUMN = _WIDE + 0.98
_MOST_TYPES = 14
_LABELS = 0.55  # room for the words beside the last panel's bars
_INK = colour_at(0.8)
_SECOND = WRONG


def save_aggregates_picture(found: Aggregates, ponder_map: PonderMap, path: str | Path) -> None:
    """Writes a PNG of six panels; one that has nothing to show says why.

    Args:
        found: the figures.
        ponder_map: what they are of.
        path: where to.
    """
    paint(path, partial(_draw, found=found, ponder_map=ponder_map))


def _draw(figure: "Figure", found: Aggregates, ponder_map: PonderMap) -> None:
    height = _TOP + _NEXT_ROW + _PANEL + 1.2
    figure.set_size_inches(WIDTH, height)
    canvas = Canvas(figure, height)
    known = [*facts(ponder_map), f"{found.sequences} sequence{'s' if found.sequences != 1 else ''}"]
    canvas.write_heading("How long it thought, and whether that was worth it", known)
    says = "bars and bands: 95 % of 1,000 bootstrap resamples of the sequences"
    canvas.write(MARGIN, 1.03, says, color=FAINT)
    places = [
        (MARGIN + column * _NEXT_COLUMN, _TOP + row * _NEXT_ROW, _WIDE)
        for row in range(2)
        for column in range(3)
    ]
    left, top, wide = places.pop()
    places.append((left + _LABELS, top, wide - _LABELS))
    panels = [canvas.axes(left, top, wide, _PANEL) for left, top, wide in places]
    deepest = max(
        (group.steps.high or group.steps.value or 0 for by in found.by.values() for group in by),
        default=1,
    )
    limit = min(1.03 * ponder_map.max_steps, 1.08 * deepest)
    _draw_curve(
        panels[0],
        found.by["difficulty"],
        "Steps against difficulty",
        difficulty_name(ponder_map),
        limit,
    )
    _draw_curve(panels[1], found.by["position"], "Steps by position", "position", limit)
    _draw_types(panels[2], found.by["type"], limit)
    _draw_groups(panels[3], found.by["correctness"], limit)
    _draw_calibration(panels[4], found.calibration)
    _draw_shares(panels[5], found)


def _draw_curve(at: "Axes", groups: Sequence[Group], title: str, axis: str, limit: float) -> None:
    from matplotlib.ticker import MaxNLocator

    set_title(at, title)
    if not groups:
        _nothing(at, "The task names no difficulty.")
        return
    x = np.array([group.place for group in groups], dtype=float)
    middle, low, high = _limits([group.steps for group in groups])
    at.fill_between(x, low, high, color=colour_at(0.35), alpha=0.5, linewidth=0)
    at.errorbar(
        x,
        middle,
        [middle - low, high - middle],
        color=_INK,
        linewidth=1.8,
        marker="o",
        markersize=4,
        capsize=2,
    )
    at.set_ylabel("mean steps")
    at.set_ylim(0, limit)
    if len(x) == 1:
        at.set_xticks(x, [f"{x[0]:.4g}"])
    else:
        at.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=bool(np.all(x == np.round(x)))))
    plain_axes(at, "y")
    told = draw_counts(at, x.tolist(), middle.tolist(), [group.tokens for group in groups])
    at.set_xlabel(f"{axis}\n{told}")


def _draw_types(at: "Axes", groups: Sequence[Group], limit: float) -> None:
    """The most frequent types, longest thinkers above."""
    shown = sorted(groups[:_MOST_TYPES], key=lambda group: group.steps.value or 0)
    set_title(at, "Steps by type of token")
    if not shown:
        _nothing(at, "There are no tokens.")
        return
    middle, low, high = _limits([group.steps for group in shown])
    places = np.arange(len(shown))
    at.errorbar(
        middle,
        places,
        xerr=[middle - low, high - middle],
        fmt="o",
        color=_INK,
        markersize=4,
        capsize=2,
    )
    names = [shortened(visible(group.name, keep_spaces=len(group.name) > 1), 12) for group in shown]
    at.set_yticks(places, names, size=min(9.5, 120 / len(shown)))
    at.set_xlabel(
        "mean steps"
        + (f" ({len(shown)} most frequent of {len(groups)})" if len(groups) > len(shown) else "")
    )
    at.set_xlim(0, limit)
    at.set_ylim(-0.6, len(shown) - 0.4)
    plain_axes(at, "x")
    for place, group in zip(places.tolist(), shown, strict=True):
        at.text(
            1.02,
            place,
            short_count(group.tokens),
            size=7,
            color=FAINT,
            va="center",
            transform=at.get_yaxis_transform(),
        )
    at.text(1.02, 1.01, "tokens", size=7, color=FAINT, va="bottom", transform=at.transAxes)


def _draw_groups(at: "Axes", groups: Sequence[Group], limit: float) -> None:
    set_title(at, "Steps of right and wrong answers")
    if not groups:
        _nothing(at, "Nothing was asked, or no answer kept.")
        return
    middle, low, high = _limits([group.steps for group in groups])
    places = np.arange(len(groups))
    colours = {"right": colour_at(0.62), "wrong": WRONG}
    at.bar(
        places, middle, width=0.6, color=[colours.get(group.name, "#c4c7cb") for group in groups]
    )
    at.errorbar(
        places,
        middle,
        [middle - low, high - middle],
        fmt="none",
        color="#22252a",
        capsize=4,
        linewidth=1.2,
    )
    at.set_xticks(places, [f"{group.name}\n{group.tokens:,} tokens" for group in groups])
    at.set_xlim(-0.6, max(len(groups), 2) - 0.4)
    at.set_ylabel("mean steps")
    at.set_ylim(0, limit)
    plain_axes(at, "y")


def _draw_calibration(at: "Axes", found: dict[str, Calibration]) -> None:
    set_title(at, "Does the number foretell a right answer?")
    if not found:
        _nothing(at, "No answers were read out, or there is no target.")
        return
    styles = {
        "score": (_INK, "o", "the rule's score, each step"),
        "confidence": (_SECOND, "s", "confidence, last step"),
    }
    for name, each in found.items():
        colour, marker, says = styles[name]
        x = np.array([one.score for one in each.bins])
        middle, low, high = _limits([one.right for one in each.bins])
        told = "" if each.auroc is None else f" (AUROC {each.auroc:.2f})"
        limits = [middle - low, high - middle]
        at.errorbar(
            x,
            middle,
            limits,
            color=colour,
            marker=marker,
            markersize=4,
            capsize=2,
            label=says + told,
        )
    left, right = at.get_xlim()
    if left > -0.2 and right < 1.2:
        at.plot([0, 1], [0, 1], color="#9aa0a6", linewidth=1, linestyle="--", zorder=0)
        at.set_xlim(-0.03, 1.03)
    at.set_xlabel("mean number of a tenth of the entries")
    at.set_ylabel("share right")
    at.set_ylim(-0.03, 1.03)
    plain_axes(at, "y")
    # Under the panel, where no curve is.
    at.legend(
        loc="upper left",
        bbox_to_anchor=(-0.12, -0.2),
        frameon=False,
        fontsize=8.5,
        ncols=1,
        borderaxespad=0,
    )


def _draw_shares(at: "Axes", found: Aggregates) -> None:
    set_title(at, "Compute spent on …")
    rows = [
        ("answers that no\nlonger changed", found.overthinking),
        ("wrong, though\nright before", found.degraded),
        ("wrong, and the\nchance still rose", found.still_improving),
        (f"wrong, and right\nafter {found.deeper_steps} steps", found.right_if_deeper),
    ]
    shown = [
        (name, share.compute)
        for name, share in rows
        if share is not None and share.compute.value is not None
    ]
    if not shown:
        _nothing(at, "No answers were read out at each step.")
        return
    shown.reverse()
    middle, low, high = _limits([estimate for _, estimate in shown])
    places = np.arange(len(shown))
    at.barh(places, middle, height=0.55, color=colour_at(0.55))
    at.errorbar(
        middle,
        places,
        xerr=[middle - low, high - middle],
        fmt="none",
        color="#22252a",
        capsize=3,
        linewidth=1.2,
    )
    for place, (value, end) in enumerate(zip(middle, high, strict=True)):
        at.text(end + 0.02, place, percent(value), va="center", size=9)
    at.set_yticks(places, [name for name, _ in shown], size=8.5)
    at.set_xlim(0, min(1.25, max(0.25, 1.35 * float(high.max()))))
    at.set_ylim(-0.6, len(shown) - 0.4)
    at.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    at.set_xlabel("of executed token-steps")
    plain_axes(at, "x")


def _limits(estimates: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, lower and upper limits; the value itself where there is no interval."""
    value = np.array([np.nan if each.value is None else each.value for each in estimates])
    low = np.array([np.nan if each.low is None else each.low for each in estimates])
    high = np.array([np.nan if each.high is None else each.high for each in estimates])
    # A resampled limit may lie on the other side of the value by rounding alone.
    return value, np.fmin(low, value), np.fmax(high, value)


def _nothing(at: "Axes", says: str) -> None:
    at.text(0.5, 0.5, says, ha="center", va="center", color=FAINT, transform=at.transAxes)
    at.set_axis_off()
