"""The Pareto front as one static HTML file, without scripts or network access: the picture and a
table."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

from halting.maps.viewers.colours import WRONG, colour_at
from training.tuning.label_places import Box, Line, Named, place_names
from training.tuning.pareto import ParetoPoint, knee, names_with_seeds, pareto_front, stretches

_BOTTOM = 48
_TOP = 24
_TICKS = 5
_STAR = "M0 -11 3 -4 11 -3 5 2 7 10 0 6 -7 10 -5 2 -11 -3 -3 -4Z"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ max-width: 60em; box-sizing: border-box; overflow-wrap: anywhere; margin: 0 auto; padding: 1em; font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b;
  background: var(--paper); color-scheme: light dark; --paper: #fff; --front: {front}; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e8e8e6; --paper: #15171a; --front: {front_dark}; }} }}
h1 {{ font-size: 1.3em; margin: .2em 0; }}
svg {{ display: block; width: 100%; height: auto; }}
svg.narrow {{ display: none; max-width: 30em; }}
svg text {{ fill: currentColor; font-size: 13px; }}
.grid {{ stroke: currentColor; opacity: .15; }}
.front {{ fill: none; stroke: var(--front); stroke-width: 2; }}
.spread {{ stroke: currentColor; opacity: .45; }}
circle {{ fill: var(--front); }}
.beaten {{ fill: #8b9096; }}
.cross {{ stroke: {wrong}; stroke-width: 2.5; }}
.star {{ fill: #f0c419; stroke: #22252a; }}
.shade {{ fill: {wrong}; opacity: .12; }}
.table {{ overflow-x: auto; overflow-wrap: normal; }}
table {{ border-spacing: 0; }}
td, th {{ padding: .2em .8em; text-align: right; vertical-align: bottom; border-bottom: 1px solid #8885; }}
td {{ white-space: nowrap; }}
td:first-child, th:first-child {{ text-align: left; }}
/* A picture of its own for a phone: the wide one's letters would shrink to half. */
@media (max-width: 40em) {{
  svg.wide {{ display: none; }}
  svg.narrow {{ display: block; }}
  td, th {{ padding: .2em .5em; }}
  td:first-child, th:first-child {{ position: sticky; left: 0; padding-left: 0; background: var(--paper) padding-box; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
{facts}
{wide}
{narrow}
<p>{seeds}★ the knee; ✗ collapsed (its tokens all stop at one step, under one seed at least); grey: beaten by another. Lines:
from the least to the most of several seeds. Hovering over a point tells what is known of it.</p>
<div class="table" tabindex="0" role="region" aria-label="the figures">{table}</div>
</body>
</html>
"""


@dataclass(frozen=True)
class _Sheet:
    """What a picture is drawn on, in units of 1/13 of its letters.

    Args:
        kind: its class in the page.
        width, height: of the whole.
        left, right: room beside the axes.
    """

    kind: str
    width: int
    height: int
    left: int
    right: int

    @property
    def bottom(self) -> int:
        """Where the axis of compute lies."""
        return self.height - _BOTTOM


_WIDE = _Sheet("wide", 720, 400, 64, 24)
_NARROW = _Sheet("narrow", 330, 330, 52, 10)


def pareto_page(
    points: Sequence[ParetoPoint],
    title: str,
    facts: Sequence[str] = (),
    compute_name: str = "executed steps a token",
    accuracy_name: str = "accuracy",
) -> str:
    """The whole page.

    Args:
        points: at least one.
        title: the heading.
        facts: lines under it.
        compute_name, accuracy_name: what the axes say.
    """
    _, seeds = names_with_seeds(points)
    return _PAGE.format(
        title=escape(title),
        facts="\n".join(f"<p>{escape(line)}</p>" for line in facts),
        wide=_picture(points, compute_name, accuracy_name, _WIDE),
        narrow=_picture(points, compute_name, accuracy_name, _NARROW),
        seeds=f"{seeds[:1].upper()}{seeds[1:]}. " if seeds else "",
        table=_table(points, compute_name, accuracy_name),
        front=colour_at(0.8),
        front_dark=colour_at(0.45),
        wrong=WRONG,
    )


class _Scale:
    """From values to places."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        least = min(values)
        most = max(values)
        room = 0.08 * ((most - least) or abs(most) or 1.0)
        self.least = least - room
        self.most = most + room
        self.start = start
        self.end = end

    def __call__(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values, some four to eight of them."""
        rough = (self.most - self.least) / _TICKS
        unit = 10.0 ** floor(log10(rough))
        step = next(unit * each for each in (1, 2, 5, 10) if unit * each >= rough)
        first = ceil(self.least / step)
        last = floor(self.most / step)
        return [round(step * number, 12) for number in range(first, last + 1)]


def _picture(
    points: Sequence[ParetoPoint], compute_name: str, accuracy_name: str, sheet: _Sheet
) -> str:
    x = _Scale(
        [each for point in points for each in (point.compute, *(point.compute_interval or ()))],
        sheet.left,
        sheet.width - sheet.right,
    )
    y = _Scale(
        [each for point in points for each in (point.accuracy, *(point.interval or ()))],
        sheet.bottom,
        _TOP,
    )
    front = pareto_front(points)
    best = knee(points)
    bottom = sheet.bottom
    names = {
        id(point): name for point, name in zip(points, names_with_seeds(points)[0], strict=True)
    }
    parts = [
        f'<svg class="{sheet.kind}" viewBox="0 0 {sheet.width} {sheet.height}" role="img" '
        f'aria-label="{escape(accuracy_name)} against compute">'
    ]
    for begin, end in stretches([x(point.compute) for point in points if point.collapsed], 12):
        parts.append(
            f'<rect class="shade" x="{begin:.1f}" y="{_TOP}" width="{end - begin:.1f}" height="{bottom - _TOP}"/>'
        )
    for tick in y.ticks():
        parts.append(
            f'<line class="grid" x1="{sheet.left}" x2="{sheet.width - sheet.right}" y1="{y(tick)}" y2="{y(tick)}"/>'
        )
        parts.append(
            f'<text x="{sheet.left - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:.4g}</text>'
        )
    for tick in x.ticks():
        parts.append(
            f'<text x="{x(tick)}" y="{bottom + 18}" text-anchor="middle">{tick:.3g}</text>'
        )
    parts.append(
        f'<text x="{sheet.width / 2}" y="{sheet.height - 6}" text-anchor="middle">{escape(compute_name)}</text>'
    )
    parts.append(f'<text x="4" y="14">{escape(accuracy_name)}</text>')
    places = " ".join(f"{x(point.compute)},{y(point.accuracy)}" for point in front)
    parts.append(f'<polyline class="front" points="{places}"/>')
    first = [*([best] if best else []), *(point for point in front if point != best)]
    order = [*first, *(each for each in points if each not in first)]
    for point, spot in zip(order, _spots(order, names, front, best, x, y, sheet), strict=True):
        parts.append(_mark(point, names[id(point)], x, y, point in front, point == best, spot))
    return "\n".join([*parts, "</svg>"])


def _spots(
    points: Sequence[ParetoPoint],
    names: dict[int, str],
    front: Sequence[ParetoPoint],
    best: ParetoPoint | None,
    x: _Scale,
    y: _Scale,
    sheet: _Sheet,
) -> list[Box | None]:
    """The place of each point's name, y going up."""
    named = [
        Named(
            x(each.compute),
            -y(each.accuracy),
            11 if each == best else 6,
            7.4 * len(names[id(each)]) + 2,
            13,
        )
        for each in points
    ]
    lines: list[Line] = [
        (x(a.compute), -y(a.accuracy), x(b.compute), -y(b.accuracy)) for a, b in pairwise(front)
    ]
    for each in points:
        (low, high), (left, right) = (
            each.interval or (each.accuracy,) * 2,
            each.compute_interval or (each.compute,) * 2,
        )
        lines.append((x(each.compute), -y(low), x(each.compute), -y(high)))
        lines.append((x(left), -y(each.accuracy), x(right), -y(each.accuracy)))
    room = Box(sheet.left, -sheet.bottom, sheet.width, -_TOP / 2)
    return place_names(named, named, lines, room)


def _mark(
    point: ParetoPoint,
    name: str,
    x: _Scale,
    y: _Scale,
    on_front: bool,
    best: bool,
    spot: Box | None,
) -> str:
    """One point with its lines, its name where there is room for it, and what it tells."""
    across = x(point.compute)
    down = y(point.accuracy)
    parts = [f"<g><title>{escape(_details(point))}</title>"]
    if point.interval:
        low, high = map(y, point.interval)
        parts.append(f'<line class="spread" x1="{across}" x2="{across}" y1="{low}" y2="{high}"/>')
    if point.compute_interval:
        low, high = map(x, point.compute_interval)
        parts.append(f'<line class="spread" x1="{low}" x2="{high}" y1="{down}" y2="{down}"/>')
    if point.collapsed:
        for slope in (-1, 1):
            parts.append(
                f'<line class="cross" x1="{across - 5}" x2="{across + 5}" y1="{down - 5 * slope}" '
                f'y2="{down + 5 * slope}"/>'
            )
    elif best:
        parts.append(f'<path class="star" transform="translate({across} {down})" d="{_STAR}"/>')
    else:
        kind = "on-front" if on_front else "beaten"
        parts.append(f'<circle class="{kind}" cx="{across}" cy="{down}" r="5"/>')
    if spot is not None:
        middle = (spot.left + spot.right) / 2
        if (
            max(
                abs(middle - across) - (spot.right - spot.left) / 2,
                abs(-spot.low - 6.5 - down) - 6.5,
            )
            > 16
        ):
            parts.append(
                f'<line class="spread" x1="{across}" y1="{down}" x2="{middle:.1f}" y2="{-spot.low - 6.5:.1f}"/>'
            )
        parts.append(
            f'<text x="{middle:.1f}" y="{-spot.low - 3:.1f}" text-anchor="middle">{escape(name)}</text>'
        )
    return "".join([*parts, "</g>"])


def _details(point: ParetoPoint) -> str:
    lines = [point.label, f"accuracy {point.accuracy:.4f}", f"compute {point.compute:.4g}"]
    return "\n".join([*lines, *(f"{name} {value}" for name, value in point.details)])


def _table(points: Sequence[ParetoPoint], compute_name: str, accuracy_name: str) -> str:
    front = pareto_front(points)
    best = knee(points)
    names = list(dict.fromkeys(name for point in points for name, _ in point.details))
    head = ("setting", "", accuracy_name, compute_name, *names)
    rows = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    for point in sorted(points, key=lambda each: each.compute):
        said = dict(point.details)
        told = (
            "★ knee"
            if point == best
            else "✗ collapsed"
            if point.collapsed
            else "front"
            if point in front
            else ""
        )
        figures = (
            f"{point.accuracy:.4f}",
            f"{point.compute:.4g}",
            *(said.get(name, "–") for name in names),
        )
        rows.append(
            "<tr>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in (point.label, told, *figures))
            + "</tr>"
        )
    return "<table>\n" + "\n".join(rows) + "\n</table>"
